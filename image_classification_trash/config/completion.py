"""Completion of command lines in bash, zsh and fish, generated from the parsers of all commands.

trash-classifier --completion bash > ~/.local/share/bash-completion/completions/trash-classifier
trash-classifier --completion zsh > ~/.zfunc/_trash-classifier
trash-classifier --completion fish > ~/.config/fish/completions/trash-classifier.fish
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from image_classification_trash.config.command_line import build_parser
from image_classification_trash.config.verbs import VERBS, settings_of

PROGRAM = "trash-classifier"
GENERAL = {
    "--help": "Show the commands",
    "--version": "Show the versions of package, model and engines",
    "--schema": "Show the JSON schema of recipes",
    "--completion": "Show a script that completes commands",
}
"""Flags that stand in place of a command."""
SHELLS = ("bash", "zsh", "fish")


class Flag(NamedTuple):
    """A flag of a command: its spelling, its help, whether a value follows it, and which ones there are if they are few."""

    spelling: str
    help: str
    takes_value: bool
    values: tuple[str, ...]


def flags_of(verb: str) -> Iterator[Flag]:
    """Yield the long flags of a command in the order of `--help-all`; a boolean setting has two."""
    for action in build_parser(settings_of(verb), everything=True)._actions:
        text = (action.help or "").replace("%%", "%")
        few = isinstance(action.metavar, str) and action.metavar.startswith("{")
        values = tuple(str(action.metavar).strip("{}").split(",")) if few else ()
        takes_value = action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction)
        for spelling in action.option_strings:
            if spelling.startswith("--"):
                yield Flag(spelling, text, takes_value, values)


def bash() -> str:
    """Return the script for bash: commands, flags, and values that are few; everything else completes as a file name."""
    cases, values = [f'        "") words="{" ".join([*VERBS, *GENERAL])}" ;;'], []
    for verb in VERBS:
        flags = list(flags_of(verb))
        cases.append(f'        {verb}) words="{" ".join(flag.spelling for flag in flags)}" ;;')
        few = (flag for flag in flags if flag.values)
        values += [
            f'        {verb}:{flag.spelling}) words="{" ".join(flag.values)}"; given=1 ;;' for flag in few
        ]
    return f"""# Completes {PROGRAM} in bash; made by `{PROGRAM} --completion bash`.
_trash_classifier() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} verb="" words="" given="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${{COMP_WORDS[i]}} == -* ]] || {{ verb=${{COMP_WORDS[i]}}; break; }}
    done
    case $verb in
{chr(10).join(cases)}
    esac
    case $verb:$before in
        :--completion) words="{" ".join(SHELLS)}"; given=1 ;;
{chr(10).join(values)}
    esac
    COMPREPLY=()
    [[ -z $given && -n $verb && $current != -* ]] || COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _trash_classifier {PROGRAM}
"""


def zsh() -> str:
    """Return the script for zsh, with the help of each command and flag."""
    verbs = "\n".join(f"        {_quoted(f'{name}:{verb.help}')}" for name, verb in VERBS.items())
    cases = []
    for verb in VERBS:
        lines = []
        for flag in flags_of(verb):
            values = f"({' '.join(flag.values)})" if flag.values else "_files"
            text = flag.help.translate({ord(c): f"\\{c}" for c in "[]:\\"})
            lines.append(_quoted(f"{flag.spelling}[{text}]{f':value:{values}' if flag.takes_value else ''}"))
        cases.append(f"        {verb}) _arguments {' '.join(lines)} '*:file:_files' ;;")
    return f"""#compdef {PROGRAM}
# Completes {PROGRAM} in zsh; made by `{PROGRAM} --completion zsh`.
_trash_classifier() {{
    local -a verbs
    verbs=(
{verbs}
    )
    if ((CURRENT == 2)); then
        _describe command verbs
        compadd -- {" ".join(GENERAL)}
        return
    fi
    local verb=$words[2]
    shift words
    ((CURRENT--))
    case $verb in
        --completion) compadd -- {" ".join(SHELLS)} ;;
{chr(10).join(cases)}
    esac
}}
compdef _trash_classifier {PROGRAM}
"""


def fish() -> str:
    """Return the script for fish, with the help of each command and flag."""
    names = " ".join(VERBS)
    start = f"complete -c {PROGRAM} -n 'not __fish_seen_subcommand_from {names}'"
    lines = [f"# Completes {PROGRAM} in fish; made by `{PROGRAM} --completion fish`."]
    lines += [f"{start} -f -a {name} -d {_quoted(verb.help, 'fish')}" for name, verb in VERBS.items()]
    for name, text in GENERAL.items():
        more = f" -x -a '{' '.join(SHELLS)}'" if name == "--completion" else ""
        lines.append(f"{start} -l {name[2:]} -d {_quoted(text, 'fish')}{more}")
    for verb in VERBS:
        for flag in flags_of(verb):
            value = f" -x -a '{' '.join(flag.values)}'" if flag.values else " -r" if flag.takes_value else ""
            where = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {verb}'"
            lines.append(f"{where} -l {flag.spelling[2:]} -d {_quoted(flag.help, 'fish')}{value}")
    return "\n".join(lines) + "\n"


def _quoted(text: str, shell: str = "sh") -> str:
    """Quote a text as one word of a shell."""
    escaped = (
        text.replace("\\", "\\\\").replace("'", "\\'") if shell == "fish" else text.replace("'", "'\\''")
    )
    return f"'{escaped}'"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
"""What returns the script of each shell."""
