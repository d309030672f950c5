// node test/documents.mjs openapi.json: writes the README's examples and those of examples/ to build/,
// typed and compiled, so that they can be run; and build/contract.ts, which compiles only while our
// types are the schema's.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { contract } from "./contract.mjs";

const at = (path) => new URL(`../${path}`, import.meta.url);
rmSync(at("build"), { recursive: true, force: true });
mkdirSync(at("build"));

const readme = readFileSync(at("README.md"), "utf8");
for (const [index, [, code]] of [...readme.matchAll(/```ts\n(.*?)```/gs)].entries()) {
  writeFileSync(at(`build/readme-${index}.ts`), code);
}
for (const name of readdirSync(at("examples"))) copyFileSync(at(`examples/${name}`), at(`build/${name}`));
const schema = JSON.parse(readFileSync(process.argv[2], "utf8"));
writeFileSync(at("build/contract.ts"), contract(schema));

const compilerOptions = {
  types: ["node"],
  lib: ["ES2022", "ESNext.Disposable", "DOM"],
  rootDir: ".",
  outDir: ".",
  declaration: false,
};
const config = { extends: "../tsconfig.json", compilerOptions, include: ["*.ts"], exclude: [] };
writeFileSync(at("build/tsconfig.json"), JSON.stringify(config));
try {
  execFileSync("npx", ["tsc", "-p", "build/tsconfig.json"], { cwd: at("."), encoding: "utf8" });
} catch (error) {
  console.error(error.stdout);
  process.exit(1);
}
