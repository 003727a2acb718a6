"""From photos to predictions without torch and without tensorflow: runs in a Lambda and on a Raspberry Pi."""
