/**
 * `bosun start`, `demo` and what else serves an app: this process becomes the primary.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { DEMO_APP, moduleFile } from '../config/app-module.ts';
import { readEnvironment } from '../config/config.ts';
import { workingDirectory } from '../config/working-directory.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { CommandError } from './client.ts';

/** The commands that serve an app; what follows `--` is for the app. */
const SERVES: ReadonlySet<unknown> = new Set(['start', 'dev', 'demo']);

/** Node.js options for the workers alone, by the name of the option. */
export type Preloads = Partial<Record<'import' | 'require', string[]>>;

/** The arguments of `bosun`, and those of the app. */
export function splitArguments(argv: readonly string[]): { own: readonly string[]; app: readonly string[] } {
  const end = SERVES.has(argv[2]) ? argv.indexOf('--') : -1;
  const [own, app] = end === -1 ? [argv, []] : [argv.slice(0, end), argv.slice(end + 1)];
  return { own: argv[2] === 'dev' ? own.map(withoutValue) : own, app };
}

/** As in Node.js, the value of --inspect follows "=": in `bosun dev --inspect ./server.js` the module is none. */
const withoutValue = (word: string) => (/^--inspect(?:-brk)?$/.test(word) ? `${word}=` : word);

/**
 * Serves this module, or what APP_MODULE or the package.json in the working directory names; `app` are the arguments of the app.
 * @throws CommandError, ConfigError
 */
export async function start(
  module: string | undefined,
  { import: imports = [], require: requires = [] }: Preloads,
  app: readonly string[],
): Promise<void> {
  if (module !== undefined) process.env.APP_MODULE = existing(module);
  const { environment } = readEnvironment(process.env, workingDirectory());
  const options = [...imports.map(value => `--import=${quoted(value)}`), ...requires.map(value => `--require=${quoted(value)}`)];
  if (options.length > 0) process.env.WORKER_NODE_OPTIONS = [environment.WORKER_NODE_OPTIONS ?? '', ...options].join(' ').trim();
  process.argv.splice(2, Number.POSITIVE_INFINITY, ...app); // workers get a copy
  await import('../main.ts');
}

/** @throws CommandError, ConfigError */
export async function startDemo(app: readonly string[]): Promise<void> {
  if (!existsSync(DEMO_APP))
    throw new CommandError('the demo app is not part of the package: run it in a clone of the repository', CliExitCode.badConfig);
  await start(DEMO_APP, {}, app);
}

/** The path of a module that exists, or of a folder with one. The primary finds the file in it, again at each rolling restart. */
function existing(module: string): string {
  const path = resolve(workingDirectory(), module);
  if (!existsSync(moduleFile(path, workingDirectory())))
    throw new CommandError(
      `${process.argv[2]} needs the file of a module, got "${module}": there is no ${path}`,
      CliExitCode.badConfig,
    );
  return path;
}

/** As NODE_OPTIONS quotes it. */
const quoted = (value: string): string => (/[\s"\\]/.test(value) ? `"${value.replaceAll(/["\\]/g, '\\$&')}"` : value);
