/**
 * A folder that looks like the /proc and /sys of a container with cgroup v2; its limits can be changed while somebody watches. It goes when the
 * test ends.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after } from 'node:test';

const CGROUP = '/sys/fs/cgroup';

export class FakeRoot {
  readonly path = mkdtempSync(join(tmpdir(), 'bosun-root-'));

  constructor(limits: { cpuMax?: string; memoryMax?: string; memoryHigh?: string; online?: string } = {}) {
    this.write('/proc/self/cgroup', '0::/\n');
    this.write('/proc/self/mountinfo', `704 703 0:29 / ${CGROUP} ro,nosuid - cgroup2 cgroup rw,nsdelegate\n`);
    this.write('/proc/meminfo', 'MemTotal:       67108864 kB\n');
    this.write('/sys/devices/system/cpu/online', `${limits.online ?? '0-7'}\n`);
    this.write(`${CGROUP}/cgroup.controllers`, 'cpuset cpu io memory pids\n');
    this.cpuMax(limits.cpuMax ?? 'max 100000');
    this.memoryMax(limits.memoryMax ?? 'max');
    this.write(`${CGROUP}/memory.high`, `${limits.memoryHigh ?? 'max'}\n`);
    after(() => rmSync(this.path, { recursive: true, force: true }));
  }

  cpuMax(text: string): void {
    this.write(`${CGROUP}/cpu.max`, `${text}\n`);
  }

  memoryMax(text: string): void {
    this.write(`${CGROUP}/memory.max`, `${text}\n`);
  }

  /** What the container uses, and lines of memory.stat. */
  memoryUsed(bytes: number, stat = ''): void {
    this.write(`${CGROUP}/memory.current`, `${bytes}\n`);
    this.write(`${CGROUP}/memory.stat`, stat);
  }

  /** In place, as the kernel's files change: a watcher follows the file, not the name. */
  write(file: string, text: string): void {
    const path = join(this.path, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}
