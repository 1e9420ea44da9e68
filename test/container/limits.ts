/**
 * The limits of a container, beyond what Testcontainers has methods for: set at its start, changed while it runs, and set by a cgroup
 * above it.
 */
import { accessSync, constants, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../until.ts';
import { App } from './app.ts';
import { atEnd, docker, engine, imageId, removeContainerAtEnd, uniqueName } from './engine.ts';

const MIB = 2 ** 20;
const CGROUP = '/sys/fs/cgroup';

/** Starts a container of the image with the flags of `docker run`; resolves when all its workers serve. */
export async function runLimited(flags: string[], env: Record<string, string> = {}): Promise<App> {
  const name = uniqueName();
  removeContainerAtEnd(name);
  const ports = ['3000', '9090'].map(port => `--publish=127.0.0.1::${port}`);
  const variables = Object.entries({ SHUTDOWN_DELAY_MS: '0', ...env }).map(([key, value]) => `--env=${key}=${value}`);
  const app = await App.of(await docker(['run', '--detach', '--name', name, ...ports, ...variables, ...flags, await imageId()]));
  await app.ready();
  return app;
}

/** `docker update`: other limits for a container that runs. */
export async function update(app: App, ...flags: string[]): Promise<void> {
  await docker(['update', ...flags, app.id]);
}

/** So much memory and no swap besides. */
export const memory = (mb: number) => ['--memory', `${mb}m`, '--memory-swap', `${mb}m`];

/** How many processes of the container the kernel has killed for lack of memory, by the kernel's own counter. */
export async function kernelKills(app: App): Promise<number> {
  const files = `${CGROUP}/memory/memory.oom_control ${CGROUP}/memory.events`;
  const { stdout } = await app.exec('sh', '-c', `cat ${files} 2>/dev/null`);
  const [, kills] = /^oom_kill (\d+)$/m.exec(stdout) ?? [];
  if (kills === undefined) throw new Error(`no count of OOM kills in ${files}: ${stdout}`);
  return Number(kills);
}

export async function hasCpus(count: number): Promise<boolean> {
  return (await engine()).info.containerRuntime.cpus >= count;
}

/** Why no cgroup can be put above a container here; undefined where it can. */
export async function whyNoParent(): Promise<string | undefined> {
  const kind = await docker(['info', '--format', 'cgroup v{{.CgroupVersion}} by {{.CgroupDriver}}']);
  if (kind !== 'cgroup v1 by cgroupfs') return `the engine has ${kind}`;
  try {
    for (const controller of ['cpu', 'memory']) accessSync(join(CGROUP, controller), constants.W_OK);
    return undefined;
  } catch (error) {
    return `the cgroups of this machine can't be written: ${(error as Error).message}`;
  }
}

/** Makes a cgroup to start containers in, for --cgroup-parent (v1, cgroupfs). It goes after them. */
export function makeParent({ cpus, memoryMb }: { cpus?: number; memoryMb?: number }): string {
  const name = uniqueName();
  atEnd(async () => {
    // The engine makes one of that name for every controller.
    for (const hierarchy of readdirSync(CGROUP)) await removeCgroup(join(CGROUP, hierarchy, name));
  });
  for (const controller of ['cpu', 'memory']) mkdirSync(join(CGROUP, controller, name));
  if (cpus !== undefined) setParentCpus(`/${name}`, cpus);
  if (memoryMb !== undefined) writeFileSync(join(CGROUP, 'memory', name, 'memory.limit_in_bytes'), String(memoryMb * MIB));
  return `/${name}`;
}

/** Changes the quota of a cgroup of `makeParent`. */
export function setParentCpus(parent: string, cpus: number): void {
  writeFileSync(join(CGROUP, 'cpu', parent, 'cpu.cfs_quota_us'), String(cpus * 100_000));
}

/** A cgroup is busy for some moments after its last container has gone. */
async function removeCgroup(folder: string): Promise<void> {
  let why = '';
  await until(
    () => {
      try {
        rmdirSync(folder);
        return true;
      } catch (error) {
        why = String((error as NodeJS.ErrnoException).code);
        return why === 'ENOENT' || undefined;
      }
    },
    () => `${folder} can't be removed: ${why}`,
  );
}
