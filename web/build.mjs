// Writes image_classification_trash/serving/web/: what the gateway hands to browsers that run the model themselves.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = name => fileURLToPath(new URL(name, import.meta.url));
const OUT = here("../image_classification_trash/serving/web/");
// The variant without relaxed SIMD, threads and JSPI: every browser of today runs it, and it rounds alike in all of them.
const VARIANT = "litert_wasm_compat_internal";
const WASM = here(`node_modules/@litertjs/core/wasm/${VARIANT}`);

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
await build({ entryPoints: [here("src/worker.js")], outfile: OUT + "worker.js", bundle: true, format: "iife", minify: true,
  target: "es2022", legalComments: "none", logLevel: "warning" });
writeFileSync(`${OUT}${VARIANT}.js`, readFileSync(`${WASM}.js`));
const engine = readFileSync(`${WASM}.wasm`);
writeFileSync(`${OUT}${VARIANT}.wasm.gz`, gzipSync(engine, { level: 9 }));
writeFileSync(OUT + "NOTICE.txt", readFileSync(here("NOTICE.txt")));

const sha256 = data => createHash("sha256").update(data).digest("hex");
const packages = JSON.parse(readFileSync(here("package-lock.json"))).packages;
const used = ["@litertjs/core", "@litertjs/wasm-utils"];
const built = {
  packages: Object.fromEntries(used.map(name => [name, packages["node_modules/" + name].integrity])),
  sources: Object.fromEntries(readdirSync(here("src")).sort().map(name => [name, sha256(readFileSync(here("src/" + name)))])),
  files: Object.fromEntries(readdirSync(OUT).sort().map(name => [name, sha256(readFileSync(OUT + name))])),
  engine_bytes: engine.length,
};
writeFileSync(OUT + "built.json", JSON.stringify(built, null, 2) + "\n");
