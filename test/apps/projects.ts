/**
 * Lays out the projects of test/apps outside of this tree, so that none of its packages is found from there: the files of the folder, its packages
 * by `npm ci`, what its framework's documentation provides, its build. The kit is installed once from its tarball and linked into each,
 * as pnpm does. What has been laid out is used again until something of it changes.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../process/kit.ts';
import { PROJECTS, type QuickStart } from './quick-starts.ts';

const run = promisify(execFile);
const FIXTURES = join(ROOT, 'test', 'apps');
/** Written last: the folder is complete. */
const DONE = '.laid-out';
const LAID_OUT = join(tmpdir(), `bosun-apps-${process.getuid?.() ?? 0}`);
/** With the Node.js that runs the tests; the machine's own may be too old for the kit, or for a framework's build. */
export const PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);
const ENV = {
  ...process.env,
  PATH,
  NEXT_TELEMETRY_DISABLED: '1',
};

/** Whether npm reaches a registry; the error otherwise. */
export async function registryError(): Promise<string | undefined> {
  const query = ['view', 'koa', 'version', '--prefer-online', '--fetch-retries=0', '--fetch-timeout=10000'];
  return run('npm', query, { cwd: FIXTURES }).then(
    () => undefined,
    (error: Error & { stderr: string }) => error.stderr.split('\n')[0] ?? error.message,
  );
}

/** Packs this tree. @returns the tarball */
export async function packKit(): Promise<string> {
  const folder = join(LAID_OUT, 'kit');
  mkdirSync(folder, { recursive: true });
  await run('make', ['package', `PACKAGE_DIR=${folder}`], { cwd: ROOT });
  const [tarball = ''] = readdirSync(folder).filter(name => name.endsWith('.tgz'));
  return join(folder, tarball);
}

/** Packs this tree and installs the tarball into a project of its own. @returns the folder of the package */
export async function installKit(): Promise<string> {
  const tarball = await packKit();
  const folder = dirname(tarball);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true }));
  rmSync(join(folder, 'node_modules', 'koa-bosun'), { recursive: true, force: true });
  await npm(folder, 'install', '--no-package-lock', tarball);
  return join(folder, 'node_modules', 'koa-bosun');
}

/** @returns the folder of the project, with its packages, built, and the kit linked beside its packages */
export async function layOutWithKit(name: string, kit: string): Promise<string> {
  const folder = await layOut(name);
  if (!existsSync(join(folder, 'node_modules', 'koa-bosun'))) linkKit(folder, kit);
  return folder;
}

/** Links the installed kit into a project, and its two commands. */
export function linkKit(folder: string, kit: string): void {
  const packages = join(folder, 'node_modules');
  mkdirSync(join(packages, '.bin'), { recursive: true });
  symlinkSync(kit, join(packages, 'koa-bosun'));
  for (const name of ['bosun', 'koa-bosun'])
    symlinkSync(join('..', 'koa-bosun', 'src', 'cli', 'launch.js'), join(packages, '.bin', name));
}

/** @returns the folder of the project, with its packages, built */
export async function layOut(name: string): Promise<string> {
  const { quickStarts = [], build } = PROJECTS[name] ?? {};
  const fixture = join(FIXTURES, name);
  const folder = join(LAID_OUT, `${name}-${fingerprint(fixture, JSON.stringify(PROJECTS[name]))}`);
  if (existsSync(join(folder, DONE))) return folder;
  for (const old of readdirSync(LAID_OUT)) {
    if (old.replace(/-\w{12}$/, '') === name) rmSync(join(LAID_OUT, old), { recursive: true });
  }
  cpSync(fixture, folder, { recursive: true, filter: file => !file.endsWith('node_modules') });
  if (existsSync(join(folder, 'package-lock.json'))) await npm(folder, 'ci');
  for (const quickStart of quickStarts) copyQuickStart(folder, quickStart);
  if (build !== undefined) {
    await run('npm', ['exec', '--offline', '--', ...build.split(' ')], { cwd: folder, env: ENV });
  }
  writeFileSync(join(folder, DONE), '');
  return folder;
}

/** Runs a command of npm in a project, without the scripts of packages. */
export async function npm(folder: string, command: string, ...args: string[]): Promise<void> {
  const quiet = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  await run('npm', [command, ...quiet, ...args], { cwd: folder, env: ENV });
}

/** Of every file of the fixture, and of what else its project is made of. */
function fingerprint(fixture: string, ...rest: string[]): string {
  const hash = createHash('sha256').update(JSON.stringify([process.version, ...rest]));
  const files = globSync('**', { cwd: fixture, exclude: ['node_modules'] }).sort();
  for (const file of files) {
    if (statSync(join(fixture, file)).isFile()) hash.update(`\0${file}\0`).update(readFileSync(join(fixture, file)));
  }
  return hash.digest('hex').slice(0, 12);
}

function copyQuickStart(folder: string, { to, from, block = '', leaveOut = '' }: QuickStart): void {
  const source = join(folder, 'node_modules', from);
  if (!/\.md$/i.test(from)) {
    cpSync(source, join(folder, to), { recursive: true });
    return;
  }
  const blocks = [...readFileSync(source, 'utf8').matchAll(/^```[jt]s\n([\s\S]*?)^```$/gm)].map(([, code = '']) => code);
  const code = blocks.find(code => code.includes(block) && code.includes(leaveOut));
  if (code === undefined) throw new Error(`${from} has no code block with ${block}${leaveOut && ` and ${leaveOut}`}`);
  writeFileSync(join(folder, to), code.replace(leaveOut, ''));
}
