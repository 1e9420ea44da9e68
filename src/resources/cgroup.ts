/**
 * What this container may use: CPU quota, CPU set and memory limits, read from the cgroup files themselves (v1, v2, hybrid, nested). Pure over
 * the reader that is passed in; it decides no worker count and watches nothing. os.availableParallelism() of Node 26 misreads v1, takes the
 * outermost quota instead of the tightest on nested v2, and does not see a parent's memory limit.
 */
import { readFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import type { PressureResource } from '../protocol/pressure.ts';
import { type CpuList, countCpus, intersectCpus, locate, type Place, type Places, parseCpuList, type Skipped } from './mounts.ts';

/** What this process may use. null: no limit, or none that is visible. */
export interface Limits {
  /** Cores: the least quota/period of all levels. Never 0, often a fraction. */
  quota: Bound | null;
  /** How many CPUs this process may run on: at least 1, or null if no file lists them. */
  cpuset: Bound | null;
  /** Bytes above which the kernel kills. 0 is a legal limit: never divide by it. */
  memory: Bound | null;
  /** Bytes above which cgroup v2 throttles and reclaims (memory.high). */
  memoryHigh: Bound | null;
  /** Every level that was read, per controller and mount, this process's own cgroup first. */
  levels: Level[];
  /** Every level that could not be used, and why. */
  skipped: Skipped[];
  /** The limit files that were read: what to watch for changes. */
  files: string[];
  usage: UsageFiles;
}

/** The files of this process's own cgroup that report what it has used (usage.ts), null for those that do not exist. */
export interface UsageFiles {
  cpuStat: string | null;
  cpuStatLocal: string | null;
  memoryEvents: string | null;
  memoryOomControl: string | null;
  /** Of cgroup v2, which may be mounted beside v1. */
  pressure: Record<PressureResource, string | null>;
}

const ONLINE = '/sys/devices/system/cpu/online';
const STATUS = '/proc/self/status';

/** v1 writes "no limit" as the largest number of whole pages in a long: 2^63 - 4096 or, with larger pages, a little less. */
const UNLIMITED_BYTES = 2 ** 62;

/** Eight times the largest NR_CPUS there is: a higher count comes from a broken file and must not become a worker count. */
const MAX_CPUS = 65_536;

/** The limits of this process. Throws only if `read` does; `skipped` names the files that are unusable. */
export function resolveLimits(read: ReadText): Limits {
  const survey: Survey = { read, levels: [], skipped: [], files: new Set() };
  const places = locate(readText(survey, '/proc/self/cgroup') ?? '', readMounts(survey));
  survey.skipped.push(...places.skipped);

  const quota = findQuota(survey, places.cpu);
  const cpuset = findCpuset(survey, places.cpuset);
  const { memory, memoryHigh } = findMemory(survey, places.memory);
  const { levels, skipped, files } = survey;
  return { quota, cpuset, memory, memoryHigh, levels, skipped, files: [...files], usage: findUsageFiles(survey, places) };
}

/** Reads real files. With another root it replays a support case, and no path leads out of that folder. */
export function readerBelow(root = '/'): ReadText {
  return path => {
    try {
      return readFileSync(join(root, normalize(path)), 'utf8');
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
      return code === 'ENOENT' || code === 'ENOTDIR' ? undefined : { error: code };
    }
  };
}

/** mountinfo, or if it cannot be read (some sandboxes) the one mount that every cgroup v2 system has. */
function readMounts(survey: Survey): string {
  const text = readText(survey, '/proc/self/mountinfo');
  if (text !== undefined) return text;
  const usual = typeof survey.read('/sys/fs/cgroup/cgroup.controllers') === 'string';
  return usual ? '0 0 0:0 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw' : '';
}

function findQuota(survey: Survey, place: Place): Bound | null {
  const readQuota = place.version === 2 ? readQuotaV2 : readQuotaV1;
  // Ratios, not raw quotas: every level may have its own period.
  return place.walks.flat().reduce<Bound | null>((least, directory) => tighter(least, readQuota(survey, directory)), null);
}

function readQuotaV2(survey: Survey, directory: string): Bound | null {
  const file = `${directory}/cpu.max`;
  const text = readLimit(survey, file);
  if (text === undefined) return null;
  const [quota = '', period = '100000', more] = text.split(/\s+/, 3);
  const value = more !== undefined ? undefined : quota === 'max' ? null : parseRatio(quota, period);
  return judge(survey, 'cpu', file, text, value);
}

function readQuotaV1(survey: Survey, directory: string): Bound | null {
  const file = `${directory}/cpu.cfs_quota_us`;
  const quota = readLimit(survey, file);
  if (quota === undefined) return null;
  const period = readLimit(survey, `${directory}/cpu.cfs_period_us`) ?? '(no period)';
  return judge(survey, 'cpu', file, `${quota} ${period}`, quota === '-1' ? null : parseRatio(quota, period));
}

/** The CPUs that are online, allowed for this process, and in the nearest CPU set that is not empty. */
function findCpuset(survey: Survey, place: Place): Bound | null {
  // The kernel's own list for this process comes first: if another source contradicts it, that source is wrong.
  const sources = [readAllowedCpus(survey), ...place.walks.map(walk => nearestCpuset(survey, walk, place.version))];
  sources.push(readCpuList(survey, ONLINE, readText(survey, ONLINE)));

  let cpus: CpuList | undefined;
  let decided = '';
  for (const source of sources) {
    if (source === undefined) continue;
    const both = cpus === undefined ? source.cpus : intersectCpus(cpus, source.cpus);
    if (both.length === 0) {
      // LXCFS numbers the online CPUs from 0, whatever their real numbers are.
      survey.skipped.push({ file: source.file, why: 'has no CPU in common with the other lists' });
      continue;
    }
    const count = countCpus(both);
    if (cpus === undefined || count < countCpus(cpus) || count === countCpus(source.cpus)) decided = source.file;
    cpus = both;
  }
  if (cpus === undefined) return null;
  if (countCpus(cpus) <= MAX_CPUS) return { value: countCpus(cpus), file: decided };
  survey.skipped.push({ file: decided, why: `lists more than ${MAX_CPUS} CPUs` });
  return null;
}

function readAllowedCpus(survey: Survey) {
  const [, list] = /^Cpus_allowed_list:(.*)$/m.exec(readText(survey, STATUS) ?? '') ?? [];
  return readCpuList(survey, STATUS, list);
}

function nearestCpuset(survey: Survey, walk: string[], version: 1 | 2) {
  // Kernels before 3.17 have no effective list in v1.
  const names = version === 2 ? ['cpuset.cpus.effective'] : ['cpuset.effective_cpus', 'cpuset.cpus'];
  for (const file of walk.flatMap(directory => names.map(name => `${directory}/${name}`))) {
    const found = readCpuList(survey, file, readLimit(survey, file));
    if (found !== undefined) return found;
  }
  return undefined;
}

function readCpuList(survey: Survey, file: string, text: string | undefined): { file: string; cpus: CpuList } | undefined {
  if (text === undefined) return undefined;
  const cpus = parseCpuList(text);
  // If the list is empty, the parent's applies.
  judge(survey, 'cpuset', file, text.trim(), cpus?.length === 0 ? null : cpus && countCpus(cpus));
  return cpus === undefined || cpus.length === 0 ? undefined : { file, cpus };
}

function findMemory(survey: Survey, place: Place): { memory: Bound | null; memoryHigh: Bound | null } {
  let memory: Bound | null = null;
  let memoryHigh: Bound | null = null;
  for (const walk of place.walks) {
    for (const directory of place.version === 2 ? walk : chargedDirectories(survey, walk)) {
      if (place.version === 2) {
        memory = tighter(memory, readBytes(survey, `${directory}/memory.max`));
        memoryHigh = tighter(memoryHigh, readBytes(survey, `${directory}/memory.high`));
      } else {
        memory = tighter(memory, readBytes(survey, `${directory}/memory.limit_in_bytes`));
        memory = tighter(memory, readHierarchicalLimit(survey, `${directory}/memory.stat`));
      }
    }
  }
  return { memory, memoryHigh };
}

/** Before kernel 5.11, a v1 parent with memory.use_hierarchy 0 was not charged for its children: its limit did not bind them. */
function chargedDirectories(survey: Survey, walk: string[]): string[] {
  const alone = walk.findIndex(directory => readText(survey, `${directory}/memory.use_hierarchy`)?.trim() === '0');
  return alone < 0 ? walk : walk.slice(0, Math.max(1, alone));
}

function readBytes(survey: Survey, file: string): Bound | null {
  const text = readLimit(survey, file);
  return text === undefined ? null : judge(survey, 'memory', file, text, parseBytes(text));
}

/** v1 only: the tightest limit of all ancestors, including those that are invisible in a container. */
function readHierarchicalLimit(survey: Survey, file: string): Bound | null {
  const [text, value] = /^hierarchical_memory_limit[ \t]+(.*)$/m.exec(readText(survey, file) ?? '') ?? [];
  return text === undefined || value === undefined ? null : judge(survey, 'memory', file, text.trim(), parseBytes(value.trim()));
}

function findUsageFiles(survey: Survey, { cpu, memory, unified }: Places): UsageFiles {
  // A leaf without the controller has no counters of its own; those of the nearest level with the controller apply.
  const homeOf = (walks: string[][], limitFile: string) =>
    walks.flat().find(directory => survey.files.has(`${directory}/${limitFile}`)) ?? walks[0]?.[0];
  const existing = (directory: string | undefined, name: string) =>
    directory !== undefined && typeof survey.read(`${directory}/${name}`) === 'string' ? `${directory}/${name}` : null;

  const cpuHome = homeOf(cpu.walks, cpu.version === 2 ? 'cpu.max' : 'cpu.cfs_quota_us');
  const memoryHome = homeOf(memory.walks, memory.version === 2 ? 'memory.max' : 'memory.limit_in_bytes');
  const leaf = unified.walks[0]?.[0];
  return {
    cpuStat: existing(cpuHome, 'cpu.stat'),
    cpuStatLocal: existing(cpuHome, 'cpu.stat.local'),
    memoryEvents: memory.version === 2 ? existing(memoryHome, 'memory.events') : null,
    memoryOomControl: memory.version === 1 ? existing(memoryHome, 'memory.oom_control') : null,
    pressure: {
      cpu: existing(leaf, 'cpu.pressure'),
      memory: existing(leaf, 'memory.pressure'),
      io: existing(leaf, 'io.pressure'),
    },
  };
}

/** The smaller of two bounds; of equal ones the first, which is the level nearer to this process. */
function tighter(a: Bound | null, b: Bound | null): Bound | null {
  if (a === null || b === null) return a ?? b;
  return b.value < a.value ? b : a;
}

function parseRatio(quota: string, period: string): Reading {
  const [runtime, length] = [parseWhole(quota), parseWhole(period)];
  return runtime && length ? runtime / length : undefined; // 0 is refused by the kernel
}

function parseBytes(text: string): Reading {
  const bytes = parseWhole(text);
  return text === 'max' || (bytes !== undefined && bytes >= UNLIMITED_BYTES) ? null : bytes;
}

/** Digits only, as many as 64 bits can have: no sign, no hex, no exponent. */
function parseWhole(text: string): number | undefined {
  return /^\d{1,20}$/.test(text) ? Number(text) : undefined;
}

/** Reads a file by absolute path: its text, undefined if it does not exist, or the error code if it is unreadable. */
export type ReadText = (path: string) => string | { error: string } | undefined;

/** A value and the file that decided it. */
export interface Bound {
  value: number;
  file: string;
}

/** One level that was read. `value` is null for "no limit". */
export interface Level {
  controller: 'cpu' | 'memory' | 'cpuset';
  file: string;
  /** The file's content; a v1 quota and its period are joined as in cpu.max. */
  text: string;
  /** Cores, bytes or a count of CPUs. */
  value: number | null;
}

/** A file's value: a number, null for "no limit", undefined for something that the kernel does not write. */
type Reading = number | null | undefined;

/** The record of one reading of the limits. */
interface Survey {
  read: ReadText;
  levels: Level[];
  skipped: Skipped[];
  /** The limit files that were read. */
  files: Set<string>;
}

/** Any file, unchanged. */
function readText(survey: Survey, file: string): string | undefined {
  const found = survey.read(file);
  if (found === undefined || typeof found === 'string') return found;
  survey.skipped.push({ file, why: `cannot be read (${found.error})` });
  return undefined;
}

/** A limit file, trimmed; it is recorded as one to watch. */
function readLimit(survey: Survey, file: string): string | undefined {
  const text = readText(survey, file)?.trim();
  if (text !== undefined) survey.files.add(file);
  return text;
}

/** Records a level's value. @returns the bound, if it is one */
function judge(survey: Survey, controller: Level['controller'], file: string, text: string, value: Reading): Bound | null {
  if (value === undefined) {
    survey.skipped.push({ file, why: `is malformed: ${JSON.stringify(text.slice(0, 80))}` });
    return null;
  }
  survey.levels.push({ controller, file, text: text.slice(0, 200), value });
  return value === null ? null : { value, file };
}
