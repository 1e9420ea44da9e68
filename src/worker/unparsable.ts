/**
 * Where an ES module cannot be parsed. Node.js tells that only when the error ends the process, and not in the error's stack.
 */
import { execFileSync } from 'node:child_process';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

const CHECK_TIMEOUT_MS = 5000;

/**
 * Puts the file, the line and its text before the stack of a parser's error that has none, as Node.js does for CommonJS. No code of the
 * app runs: a module that has begun to run is not loaded again. Does nothing where the place cannot be found.
 */
export async function placeInStack(error: unknown, entry: string): Promise<void> {
  if (!(error instanceof SyntaxError) || !/^ {4}at compileSourceTextModule /m.test(error.stack ?? '')) return;
  const url = await lastLoaded(entry);
  if (!url?.startsWith('file:')) return;
  const file = fileURLToPath(url);
  error.stack = `${checked(file) ?? file}\n${error.stack}`;
}

/** Loads the graph of the entry again, up to the module that fails. A CommonJS entry would run again. */
async function lastLoaded(entry: string): Promise<string | undefined> {
  let last: string | undefined;
  const hooks = registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (url === entry && loaded.format !== 'module') throw new Error('not an ES module');
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

/** The place, the line and what marks its fault; undefined if Node.js finds none. */
function checked(file: string): string | undefined {
  const { NODE_OPTIONS: _, ...env } = process.env;
  try {
    execFileSync(process.execPath, ['--check', file], { env, stdio: ['ignore', 'ignore', 'pipe'], timeout: CHECK_TIMEOUT_MS });
    return undefined;
  } catch (failure) {
    const printed = failure instanceof Error && 'stderr' in failure ? String(failure.stderr) : '';
    return printed.startsWith(file) ? printed.split('\n\n')[0] : undefined;
  }
}
