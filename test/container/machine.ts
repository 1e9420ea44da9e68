/**
 * A small virtual machine whose kernel has cgroup v2 throughout, whatever this one has: software emulation, about 20 times slower.
 * It runs with a lower priority (`nice`), so that it does not starve the tests beside it.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../process/kit.ts';

const V2VM = join(ROOT, '..', 'shared', 'engine', 'v2vm');
const CACHE = join(ROOT, 'node_modules', '.cache');
const OUTPUT_MAX_BYTES = 8 << 20;

/** Why there is no such machine; undefined where there is one. */
export const noMachine = existsSync(V2VM) ? (process.getuid?.() === 0 ? undefined : `${V2VM} needs root`) : `no ${V2VM}`;

/**
 * Runs a command in a machine of its own, in a folder with `files` of this tree, the packages of production and util-linux' unshare
 * (as `unshare-cgroup`; busybox knows no cgroup namespaces). What it prints, also where it fails.
 */
export async function runInMachine(command: string[], files: string[], { cpus = 4, seconds = 480 } = {}): Promise<string> {
  const copies = [
    `${await productionPackages()}:/app/node_modules`,
    '/usr/bin/unshare:/usr/local/bin/unshare-cgroup',
    ...files.map(file => `${join(ROOT, file)}:/app/${file}`),
  ];
  const args = ['-c', String(cpus), '-t', String(seconds), ...copies.flatMap(copy => ['-d', copy]), '--', ...command];
  const run = promisify(execFile)('nice', [V2VM, ...args], { cwd: ROOT, maxBuffer: OUTPUT_MAX_BYTES });
  const { stdout, stderr } = await run.catch((error: Error & { stdout?: string; stderr?: string }) => {
    return { stdout: error.stdout ?? '', stderr: `${error.stderr ?? ''}\n${error.message}` };
  });
  return `${stdout}\n${stderr}`;
}

/** A folder of the packages that the image has, too; installed once for each lock file. */
async function productionPackages(): Promise<string> {
  const lock = readFileSync(join(ROOT, 'package-lock.json'));
  const kept = join(CACHE, `production-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`);
  if (!existsSync(kept)) {
    mkdirSync(CACHE, { recursive: true });
    const folder = mkdtempSync(join(CACHE, 'production-'));
    try {
      for (const file of ['package.json', 'package-lock.json', '.npmrc']) copyFileSync(join(ROOT, file), join(folder, file));
      await promisify(execFile)('npm', ['ci', '--omit=dev', '--omit=optional', '--ignore-scripts'], { cwd: folder });
      renameSync(folder, kept);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  return join(kept, 'node_modules');
}
