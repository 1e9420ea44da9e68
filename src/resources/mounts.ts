/**
 * Parsers of what the kernel prints about cgroups: from the text of /proc/self/cgroup and /proc/self/mountinfo to the directories that hold this
 * process's limits, and lists of CPUs. Reads no file. Formats: proc_pid_cgroup(5), proc_pid_mountinfo(5), the kernel's proc_cgroup_show() and
 * show_mountinfo().
 */

/** A controller's cgroup version and, per usable mount, the directories from this process's own cgroup up to the mount point. */
export interface Place {
  version: 1 | 2;
  walks: string[][];
}

/** A file that was not used, and why. */
export interface Skipped {
  file: string;
  why: string;
}

export interface Places {
  cpu: Place;
  memory: Place;
  cpuset: Place;
  /** The cgroup2 tree, whatever controllers it has: it has the pressure files in a hybrid set-up too. */
  unified: Place;
  skipped: Skipped[];
}

interface Mount {
  root: string;
  point: string;
  type: string;
  options: string[];
}

/** The kernel prints and opens no longer path (ENAMETOOLONG). */
const MAX_PATH_LENGTH = 4096;

/** The longest path has 2,048 levels. Bounds the work on a hostile mountinfo. */
const MAX_DIRECTORIES = 4096;

/**
 * Finds the directories that hold the limits of this process.
 *
 * Each controller separately: one with a v1 hierarchy is looked up in v1 mounts only, any other in cgroup2 mounts only. A v1 controller
 * without a usable mount stays unknown: cgroup2 files of the same process do not apply to it.
 *
 * @param cgroup text of /proc/self/cgroup
 * @param mountinfo text of /proc/self/mountinfo
 */
export function locate(cgroup: string, mountinfo: string): Places {
  const paths = parsePaths(cgroup);
  const mounts = parseMounts(mountinfo);
  const reasons = new Set<string>();

  const place = (controller: string): Place => {
    const version = paths.has(controller) ? 1 : 2;
    const path = paths.get(version === 1 ? controller : '');
    if (path === undefined) return { version, walks: [] };

    const walks = findWalks(mounts, path, reasons, mount =>
      version === 1 ? mount.type === 'cgroup' && mount.options.includes(controller) : mount.type === 'cgroup2',
    );
    const kind = version === 1 ? `cgroup mount of ${controller}` : 'cgroup2 mount';
    if (walks.length === 0) reasons.add(`no ${kind} shows ${path.slice(0, 200)}`);
    return { version, walks };
  };

  const found = { cpu: place('cpu'), memory: place('memory'), cpuset: place('cpuset') };
  const unified = findWalks(mounts, paths.get('') ?? '', reasons, mount => mount.type === 'cgroup2');
  const skipped = [...reasons].map(why => ({ file: '/proc/self/mountinfo', why }));
  return { ...found, unified: { version: 2, walks: unified }, skipped };
}

/** Controller → path of this process in that hierarchy; '' is the key of the cgroup2 tree. */
function parsePaths(text: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of linesOf(text)) {
    // Only the first two colons separate: systemd unit names may contain more. There are no escapes.
    const [, id, controllers, path] = /^(\d+):([^:]*):(\/.*)$/s.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;

    // The kernel appends this to a cgroup2 path whose directory was removed; its parents still apply.
    const present = path.replace(/ \(deleted\)$/, '');
    if (id === '0') {
      if (controllers === '') paths.set('', present);
      continue;
    }
    for (const controller of controllers.split(',')) {
      if (controller !== '') paths.set(controller, present);
    }
  }
  return paths;
}

/** The visible mounts by mount point: of several on one point the last hides the others, whatever their types. */
function parseMounts(text: string): Map<string, Mount> {
  const mounts = new Map<string, Mount>();
  for (const line of linesOf(text)) {
    // Separated by one space: a field can be empty (mount -t cgroup2 "" /mnt), and other white space belongs to a path.
    const fields = line.split(' ');
    const [root = '', point = ''] = fields.slice(3, 5).map(unescapeOctal);
    const dash = fields.indexOf('-', 6); // after six fixed fields and any number of optional ones
    const [type, , options] = dash < 0 ? [] : fields.slice(dash + 1);
    if (type === undefined || options === undefined) continue;
    if (!root.startsWith('/') || !point.startsWith('/') || point.length > MAX_PATH_LENGTH) continue;
    mounts.set(point, { root, point, type, options: options.split(',') });
  }
  return mounts;
}

function linesOf(text: string): string[] {
  // CRLF: a support case that was copied through Windows.
  return text.split('\n').map(line => (line.endsWith('\r') ? line.slice(0, -1) : line));
}

/** Space, tab, newline, backslash and # are written as \ooo, one escape per byte. */
function unescapeOctal(field: string): string {
  return field.replace(/(?:\\[0-3][0-7]{2})+/g, run => {
    const bytes = run.slice(1).split('\\');
    return Buffer.from(bytes.map(byte => Number.parseInt(byte, 8))).toString();
  });
}

function findWalks(
  mounts: Map<string, Mount>,
  path: string,
  reasons: Set<string>,
  wanted: (mount: Mount) => boolean,
): string[][] {
  const walks: string[][] = [];
  let room = MAX_DIRECTORIES;
  for (const mount of mounts.values()) {
    if (!wanted(mount) || !shows(mount.root, path)) continue;
    const walk = walkUp(mount, path, mounts);
    room -= walk.length;
    if (room < 0) {
      reasons.add(`more than ${MAX_DIRECTORIES} directories; the rest was not read`);
      break;
    }
    walks.push(walk);
  }
  return walks;
}

/** Whether a mount of this root shows this cgroup. A path with ".." lies outside this process's cgroup namespace, a root with ".." begins no other. */
function shows(root: string, path: string): boolean {
  if (path === '' || path.length > MAX_PATH_LENGTH || /(?:^|\/)\.\.(?:\/|$)/.test(path)) return false;
  return root === '/' || path === root || path.startsWith(`${root}/`);
}

function walkUp(mount: Mount, path: string, mounts: Map<string, Mount>): string[] {
  const names = path.slice(mount.root.length).split('/');
  let directory = mount.point === '/' ? '' : mount.point;
  const walk = [directory];
  for (const name of names) {
    if (name === '') continue;
    directory += `/${name}`;
    // Another mount hides this directory and all below it. If it shows this cgroup, it has a walk of its own.
    if (mounts.has(directory)) break;
    walk.push(directory);
  }
  return walk.reverse();
}

/** A list of CPU numbers ("0-3,8") as sorted ranges that neither overlap nor are empty: "0-4294967295" costs no more than "0". */
export type CpuList = readonly { first: number; last: number }[];

/** A kernel with the largest NR_CPUS (8192) prints 20 KiB for every other CPU; longer text is not a list of CPUs. */
const MAX_LIST_LENGTH = 65_536;

/** [] for an empty list, undefined for anything that the kernel does not print. */
export function parseCpuList(text: string): CpuList | undefined {
  const list = text.trim();
  if (list === '') return [];
  if (list.length > MAX_LIST_LENGTH) return undefined;

  const ranges: { first: number; last: number }[] = [];
  for (const item of list.split(',')) {
    const [, from, to = from] = /^(\d+)(?:-(\d+))?$/.exec(item) ?? [];
    const range = { first: Number(from), last: Number(to) };
    if (!Number.isSafeInteger(range.last) || !(range.first <= range.last)) return undefined;
    ranges.push(range);
  }
  return mergeRanges(ranges.sort((a, b) => a.first - b.first));
}

export function countCpus(list: CpuList): number {
  return list.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

/** The CPUs in both lists. */
export function intersectCpus(a: CpuList, b: CpuList): CpuList {
  const both: { first: number; last: number }[] = [];
  for (let i = 0, j = 0; ; ) {
    const [x, y] = [a[i], b[j]];
    if (x === undefined || y === undefined) return both;
    const range = { first: Math.max(x.first, y.first), last: Math.min(x.last, y.last) };
    if (range.first <= range.last) both.push(range);
    if (x.last < y.last) i += 1;
    else j += 1;
  }
}

function mergeRanges(sorted: CpuList): CpuList {
  const merged: { first: number; last: number }[] = [];
  for (const range of sorted) {
    const before = merged.at(-1);
    if (before !== undefined && range.first <= before.last) before.last = Math.max(before.last, range.last);
    else merged.push({ ...range });
  }
  return merged;
}
