/**
 * Whether the compiled code is that of the sources: both are printed by esbuild, which drops the types. The tests run the sources; users run
 * what tsc has written.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

interface Esbuild {
  transformSync(code: string, options: object): { code: string };
}

/** tsx brings it. */
const esbuild = createRequire(createRequire(import.meta.url).resolve('tsx/package.json'))('esbuild') as Esbuild;
const tsconfigRaw = { compilerOptions: { verbatimModuleSyntax: true } };
const printed = (file: string, loader: 'ts' | 'js') =>
  esbuild.transformSync(readFileSync(file, 'utf8'), { loader, target: 'esnext', minifyWhitespace: true, tsconfigRaw }).code;

/** What tsc writes in place of `await using` and of imports whose name is computed. */
const HELPER = /^var __\w+ = \(this && this\.__/m;

export interface Compared {
  /** How many files are the same. */
  same: number;
  /** Those that use a helper of tsc, which are not compared. */
  withHelper: string[];
  /** The first difference of each other file. */
  differences: string[];
}

/** Compares each file of the folder `compiled` with its source below `sources`. */
export function compare(sources: string, compiled: string): Compared {
  const result: Compared = { same: 0, withHelper: [], differences: [] };
  for (const name of globSync('**/*.js', { cwd: compiled }).sort()) {
    const file = join(compiled, name);
    const sourceFile = join(sources, name.replace(/js$/, 'ts'));
    if (!existsSync(sourceFile)) continue; // JavaScript is copied
    if (HELPER.test(readFileSync(file, 'utf8'))) {
      result.withHelper.push(name);
      continue;
    }
    const source = printed(sourceFile, 'ts').replace(/(["'])(\.\.?\/[^"']*)\.ts\1/g, '$1$2.js$1');
    const output = printed(file, 'js').replace(/^export\{\};\n$/, ''); // of a module that is all types
    if (source === output) result.same++;
    else result.differences.push(`${name}: ${differenceOf(source, output)}`);
  }
  return result;
}

function differenceOf(source: string, output: string): string {
  let at = 0;
  while (source[at] === output[at]) at++;
  const shown = (text: string) => text.slice(Math.max(0, at - 40), at + 80);
  return `the source has ${shown(source)}, compiled it is ${shown(output)}`;
}
