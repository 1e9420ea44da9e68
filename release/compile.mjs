/**
 * npm's `prepack`: compiles the sources into dist, which is what the package holds. Plain JavaScript for Node.js 20: npm runs it with the
 * machine's own. Of the declarations it keeps those that index.d.ts reaches: the rest are no interface of the package.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { bundle } from './bundle.mjs';

const ROOT = resolve(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');

rmSync(DIST, { recursive: true, force: true });
execFileSync(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.package.json'], {
  cwd: ROOT,
  stdio: 'inherit',
});
cpSync(join(ROOT, 'src', 'admin', 'dashboard'), join(DIST, 'admin', 'dashboard'), { recursive: true });
await bundle(DIST);

const reached = new Set();
reach(join(DIST, 'index.d.ts'));
reach(join(DIST, 'index.d.cts'));
for (const name of readdirSync(DIST, { recursive: true })) {
  const file = join(DIST, name);
  if (/\.d\.c?ts$/.test(name) && !reached.has(file)) rmSync(file);
}

/** Keeps a declaration file, and those that it imports, which it names as the JavaScript beside them: tsc leaves the name of the source. */
function reach(file) {
  if (reached.has(file)) return;
  reached.add(file);
  const text = readFileSync(file, 'utf8').replace(/((?:from |import\()["']\.[^"']+\.)(c?)ts(?=["'])/g, '$1$2js');
  writeFileSync(file, text);
  for (const [, path, c] of text.matchAll(/(?:from |import\()["'](\.[^"']+)\.(c?)js["']/g)) {
    reach(resolve(dirname(file), `${path}.d.${c}ts`));
  }
}
