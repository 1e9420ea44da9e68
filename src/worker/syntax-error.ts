/**
 * Where a SyntaxError of an ES module is. For CommonJS, Node.js puts the file, the line and its text into the stack; for an ES module it
 * prints them only when the error ends the process.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Of `node --check`. */
const CHECK_TIMEOUT_MS = 5000;
const IS_TYPESCRIPT = /^\.[cm]?ts$/;
/**
 * Adds the file, the line and its text to the stack of a SyntaxError in an ES module. `entry` is the URL of the module that failed to load. No
 * code of the app runs: a module that has begun to run is not loaded again. Does nothing for other errors, and where the place cannot be found.
 */
export async function placeInStack(error: unknown, entry: string): Promise<void> {
  if (!(error instanceof SyntaxError) || !/^ {4}at compileSourceTextModule /m.test(error.stack ?? '')) return;
  const url = await lastLoaded(entry);
  if (!url?.startsWith('file:')) return;
  const file = fileURLToPath(url);
  error.stack = `${syntaxErrorIn(file) ?? file}\n\n${error.stack}`;
}

/** Loads the graph of the entry again, up to the module that fails. A CommonJS entry would run again. */
async function lastLoaded(entry: string): Promise<string | undefined> {
  let last: string | undefined;
  const hooks = registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (url === entry && !loaded.format?.startsWith('module')) throw new Error('not an ES module');
      last = url;
      return loaded;
    },
  });
  try {
    await import(entry);
    return undefined;
  } catch {
    return last;
  } finally {
    hooks.deregister();
  }
}

/** Of the same length. */
function withoutTypes(source: string): string {
  const { emitWarning } = process;
  process.emitWarning = () => undefined; // the function is experimental; the loader, which does the same, is not
  try {
    return stripTypeScriptTypes(source);
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** The place, the line and the marker under it, as `node --check` prints them; undefined if it finds no error. */
function syntaxErrorIn(file: string): string | undefined {
  const { NODE_OPTIONS: _, ...env } = process.env;
  try {
    const source = readFileSync(file, 'utf8');
    const input = IS_TYPESCRIPT.test(extname(file)) ? withoutTypes(source) : source; // --check does not strip them
    const args = ['--input-type=module', '--check', '-'];
    execFileSync(process.execPath, args, { env, input, stdio: ['pipe', 'ignore', 'pipe'], timeout: CHECK_TIMEOUT_MS });
    return undefined;
  } catch (failure) {
    const printed = failure instanceof Error && 'stderr' in failure ? String(failure.stderr) : '';
    return printed.startsWith('[stdin]') ? printed.replace('[stdin]', file).split('\n\n')[0] : undefined;
  }
}
