// Bundles src/ into ../static: files named by a digest of their content, the page that loads them, the licences of
// what went in, and a manifest with the digest of the sources so that a test can tell a stale build.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "static");

/** First 12 hex digits name a file; a change of content is a change of name. */
const digestOf = (content) => createHash("sha256").update(content).digest("hex");

function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? filesUnder(join(folder, entry.name)) : [join(folder, entry.name)]))
    .map((path) => path.split(sep).join("/"));
}

/** SHA-256 over each source's path and content, in order of path; tests/bot/workbench/test_bundle.py does the same. */
function sourceDigest() {
  const paths = ["index.html", "build.mjs", "package.json", "package-lock.json", "tsconfig.json"]
    .map((name) => join(here, name))
    .concat(filesUnder(join(here, "src")));
  const named = paths.map((path) => [relative(here, path).split(sep).join("/"), path]);
  named.sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256");
  for (const [name, path] of named) {
    hash.update(name + "\0");
    hash.update(readFileSync(path));
    hash.update("\0");
  }
  return hash.digest("hex");
}

/** The licence texts of every package that has code in the bundle. */
function licences(inputs) {
  const packages = new Set();
  for (const input of Object.keys(inputs)) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  const parts = [...packages].sort().map((name) => {
    const folder = join(here, "node_modules", name);
    const meta = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
    const text = file ? readFileSync(join(folder, file), "utf8").trim() : `Licence: ${meta.license}`;
    return `${name} ${meta.version} (${meta.license})\n\n${text}\n`;
  });
  const rule = `\n${"-".repeat(100)}\n\n`;
  return `The workbench page contains code of these packages.\n${rule}${parts.join(rule)}`;
}

const built = await build({
  absWorkingDir: here,
  entryPoints: { main: "src/main.tsx" },
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  format: "esm",
  target: ["chrome110", "firefox115", "safari16.4"],
  outdir: "out",
  define: { "process.env.NODE_ENV": '"production"' },
  // Carousels are no part of Adaptive Cards 1.5; the library they need is as large as the rest of the renderer.
  alias: {
    swiper: "./src/teams/no-carousel.ts",
    "swiper/modules": "./src/teams/no-carousel.ts",
    "node-emoji": "./src/slack/emoji-names.ts",
  },
  legalComments: "none",
  charset: "utf8",
});

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const names = {};
function put(name, content) {
  const dot = name.lastIndexOf(".");
  names[name] = `${name.slice(0, dot)}-${digestOf(content).slice(0, 12)}${name.slice(dot)}`;
  writeFileSync(join(out, names[name]), content);
}
for (const file of built.outputFiles) put(file.path.split(sep).at(-1), Buffer.from(file.contents));
put("icon.svg", readFileSync(join(here, "src", "icon.svg")));

const page = readFileSync(join(here, "index.html"), "utf8").replace(/\{\{([\w.]+)\}\}/g, (_, name) => names[name]);
writeFileSync(join(out, "index.html"), page);
writeFileSync(join(out, "THIRD-PARTY-LICENCES.txt"), licences(built.metafile.inputs));
const files = ["index.html", "THIRD-PARTY-LICENCES.txt", ...Object.values(names)].sort();
writeFileSync(join(out, "manifest.json"), `${JSON.stringify({ sources: sourceDigest(), files }, null, 2)}\n`);
for (const file of built.outputFiles) console.log(file.path.split(sep).at(-1), file.contents.length);
