/**
 * The operator's Node.js options: in NODE_OPTIONS, on the primary's command line, and for the workers only. Options for the
 * heap are removed, because each worker gets its heap on its command line (docs/decisions/1-cgroup-files.md). Options that affect
 * what the kit sets apply, apply with a warning, or are refused with the reason; none is ignored silently. docs/node-options.md
 * has the same table; a test compares the two.
 */
import { tmpdir } from 'node:os';
import type { Heap } from './heap.ts';

export interface NodeOptions {
  /** NODE_OPTIONS. */
  environment: readonly string[];
  /** Of the primary, and so of the workers: process.execArgv. */
  commandLine: readonly string[];
  /** WORKER_NODE_OPTIONS. */
  workers: readonly string[];
}

/** A heap limit that the user has set with a Node.js option. It overrides the kit's. */
export interface HeapChoice {
  sizeMb?: number;
  /** `sizeMb` is --max-heap-size, and not the old generation alone. */
  isWhole?: boolean;
  /** Of the memory limit, all workers together. */
  percent?: number;
  /** Which options set it. */
  place?: keyof NodeOptions;
  /** --max-semi-space-size in MiB, as V8 takes it: rounded up to a power of two. */
  semiSpaceMb?: number;
  semiSpacePlace?: keyof NodeOptions;
}

/** What a worker starts with. */
export interface WorkerOptions {
  choice: HeapChoice;
  /** NODE_OPTIONS. */
  environment: string;
  commandLine: string[];
}

/**
 * Removes the options for the size of the heap; --max-semi-space-size stays where it is. The last one wins: as in Node.js, NODE_OPTIONS come
 * before the command line, and WORKER_NODE_OPTIONS come last.
 */
export function takeHeapChoice(options: NodeOptions): WorkerOptions {
  let choice: HeapChoice = {};
  let semiSpace: HeapChoice = {};
  const rest = (place: keyof NodeOptions) =>
    options[place].filter(option => {
      const { name, value } = parsed(option);
      const number = Number(value);
      if (name === SEMI_SPACE && number > 0)
        semiSpace = { semiSpaceMb: 2 ** Math.ceil(Math.log2(number)), semiSpacePlace: place };
      if (!HEAP_OPTIONS.has(name)) return true;
      if (!(number > 0)) return false;
      if (name === 'max-old-space-size-percentage') choice = { percent: number, place };
      else choice = { sizeMb: Math.floor(number), ...(name === 'max-heap-size' && { isWhole: true }), place };
      return false;
    });
  const inEnvironment = joinNodeOptions(rest('environment'));
  const onCommandLine = [...rest('commandLine'), ...rest('workers')];
  return { choice: { ...choice, ...semiSpace }, environment: inEnvironment, commandLine: onCommandLine };
}

const HEAP_OPTIONS: ReadonlySet<string> = new Set(['max-old-space-size', 'max-old-space-size-percentage', 'max-heap-size']);
const SEMI_SPACE = 'max-semi-space-size';

/** The options for a worker's heap, but not for what the operator's own options set already. */
export function heapOptions({ heapPerWorkerMb, semiSpaceMb }: Heap, { isWhole = false, semiSpacePlace }: HeapChoice): string[] {
  return [
    ...(heapPerWorkerMb === null ? [] : [`--${isWhole ? 'max-heap-size' : 'max-old-space-size'}=${heapPerWorkerMb}`]),
    ...(semiSpaceMb === null || semiSpacePlace !== undefined ? [] : [`--${SEMI_SPACE}=${semiSpaceMb}`]),
  ];
}

/** An option by its documented name: Node.js also accepts underscores for dashes. The value if it is given with `=`. */
function parsed(option: string): { name: string; value?: string } {
  const [, dashes = '', flag = '', value] = /^(-{0,2})([^=]*)(?:=(.*))?$/s.exec(option) ?? [];
  if (dashes === '') return { name: '' };
  const name = ((dashes === '-' && SHORT[flag]) || flag).replaceAll('_', '-');
  return value === undefined ? { name } : { name, value };
}

const SHORT: Record<string, string> = { r: 'require', C: 'conditions', i: 'interactive' };

/** The inverse of splitNodeOptions. */
export function joinNodeOptions(options: readonly string[]): string {
  return options.map(option => (/[ "\\]/.test(option) ? `"${option.replace(/["\\]/g, '\\$&')}"` : option)).join(' ');
}

interface Row {
  /** For the docs: what the kit does with it. */
  effect: string;
  /** The reason to refuse it; undefined to accept it. `place` is where it was given. */
  refuse?: (value: string | undefined, place: keyof NodeOptions) => string | undefined;
  /** Logged for the operator. */
  warning?: string;
}

/** Signals that the primary or the workers use. */
const OWN_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU', 'SIGUSR2', 'SIGURG'];
const REPORT_SIGNAL = 'SIGUSR2';

const PASSED_ON: Row = { effect: 'applies to the primary and the workers' };
const DEBUGGER: Row = {
  effect:
    'applies, with a warning: anyone who reaches the port can run code; each worker has its own port, counted up from the primary’s',
  warning: 'anyone who reaches a debugger’s port can run code as this user',
};
const HIDDEN: Row = {
  ...DEBUGGER,
  effect:
    'applies to the primary, and to workers with `--inspect`; without `--inspect`, a worker’s inspector opens only to take the stack of a hung worker, on a free port with a secret path',
};
const WAITS: Row = {
  effect:
    'refused, after Node.js has waited for a debugger; in `WORKER_NODE_OPTIONS` it applies, with a warning: each worker waits for a debugger, without a timeout',
  refuse: (_, place) =>
    place === 'workers' ? undefined : 'it makes the primary wait for a debugger; set it in WORKER_NODE_OPTIONS',
  warning: 'each worker waits for a debugger before it loads the app',
};
const CONFIG_FILE: Row = {
  effect: 'refused: set its options in `NODE_OPTIONS`',
  refuse: () => 'the kit cannot read the options of a configuration file; set them in NODE_OPTIONS or WORKER_NODE_OPTIONS',
};
const WATCH: Row = {
  effect: 'refused: each watching process would start another one, endlessly',
  refuse: () => 'each watching process would start another one, endlessly',
};
const ENV_FILE: Row = {
  effect: 'applies, with a warning: it is read once, while a rolling restart reads `.env` again',
  warning: 'it is read once; a rolling restart reads only .env and secret files again',
};
const SYMLINKS: Row = {
  effect: 'applies to what the app imports, with a warning: `APP_MODULE` itself is resolved to its real path at each generation',
  warning: 'APP_MODULE itself is resolved to its real path at each generation',
};
const refuseOwnSignal = (signal: string | undefined) =>
  signal !== undefined && OWN_SIGNALS.includes(signal)
    ? `the kit uses ${signal}; choose another signal, such as SIGPROF`
    : undefined;

export const NODE_OPTIONS = {
  'max-old-space-size': { effect: 'sets the heap of each worker' },
  'max-old-space-size-percentage': { effect: 'sets the share of the memory limit that all workers divide' },
  'max-heap-size': { effect: 'sets the whole heap of each worker' },
  'max-semi-space-size': {
    effect: 'applies to the primary and the workers, whose young generation the kit sizes otherwise; 0 is the same as not set',
  },
  'max-http-header-size': { effect: 'sets `MAX_HEADER_BYTES`; refused if that has another value' },
  inspect: DEBUGGER,
  'inspect-port': HIDDEN,
  'debug-port': HIDDEN,
  'inspect-publish-uid': HIDDEN,
  'inspect-brk': WAITS,
  'inspect-wait': WAITS,
  'enable-source-maps': PASSED_ON,
  permission: {
    effect:
      'applies with `--allow-child-process`, `--allow-net`, `--allow-fs-read` of /proc, /sys and all loaded files, and `--allow-fs-write` of the temp dir; refused without them',
    refuse: () => missingPermissions(),
    warning: 'heap snapshots and CPU profiles need --allow-inspector',
  },
  'env-file': ENV_FILE,
  'env-file-if-exists': ENV_FILE,
  import: { effect: 'applies to the primary and the workers; in `WORKER_NODE_OPTIONS` to the workers only' },
  require: { effect: 'as `--import`' },
  title: PASSED_ON,
  'disallow-code-generation-from-strings': PASSED_ON,
  conditions: PASSED_ON,
  'unhandled-rejections': PASSED_ON,
  'network-family-autoselection-attempt-timeout': PASSED_ON,
  'experimental-config-file': CONFIG_FILE,
  'experimental-default-config-file': CONFIG_FILE,
  'heapsnapshot-signal': {
    effect: `applies, except for the kit’s own signals, which are refused: ${OWN_SIGNALS.join(', ')}`,
    refuse: refuseOwnSignal,
  },
  'report-signal': { effect: 'as `--heapsnapshot-signal`', refuse: refuseOwnSignal },
  'report-on-signal': {
    effect: `applies with a \`--report-signal\` other than ${REPORT_SIGNAL}, the default; refused otherwise`,
  },
  'abort-on-uncaught-exception': {
    effect: 'applies, with a warning: the other requests of that worker are lost',
    warning: 'a worker with an uncaught exception ends at once and loses its other requests',
  },
  watch: WATCH,
  'watch-path': WATCH,
  'preserve-symlinks': SYMLINKS,
  'preserve-symlinks-main': SYMLINKS,
} satisfies Record<string, Row>;

export interface Judged {
  refused: string[];
  warnings: string[];
  /** Bytes, as it was given. */
  maxHeaderSize: string | undefined;
}

/** Where options are set, as the operator knows it. */
export const PLACES = {
  environment: 'NODE_OPTIONS',
  commandLine: 'command line',
  workers: 'WORKER_NODE_OPTIONS',
} as const satisfies Record<keyof NodeOptions, string>;

/** @param maxHeaderBytes MAX_HEADER_BYTES, where it is set */
export function judgeNodeOptions(options: NodeOptions, maxHeaderBytes: string | undefined): Judged {
  const judged: Judged = { refused: [], warnings: [], maxHeaderSize: undefined };
  const given = new Map<string, string | undefined>();
  for (const place of ['environment', 'commandLine', 'workers'] as const) {
    options[place].forEach((option, at) => {
      const { name, value = valueAfter(options[place], at) } = parsed(option);
      const row: Row | undefined = Object.hasOwn(NODE_OPTIONS, name)
        ? NODE_OPTIONS[name as keyof typeof NODE_OPTIONS]
        : undefined;
      if (row === undefined) return;
      given.set(name, value);
      const objection = row.refuse?.(value, place);
      const where = `--${name} (${PLACES[place]})`;
      if (objection !== undefined) judged.refused.push(`${where} is refused: ${objection}`);
      else if (row.warning !== undefined) judged.warnings.push(`${where}: ${row.warning}`);
    });
  }
  if (given.has('report-on-signal') && (given.get('report-signal') ?? REPORT_SIGNAL) === REPORT_SIGNAL)
    judged.refused.push(`--report-on-signal needs a --report-signal other than ${REPORT_SIGNAL}, which the kit uses`);
  judged.maxHeaderSize = given.get('max-http-header-size');
  if (judged.maxHeaderSize !== undefined && (maxHeaderBytes ?? judged.maxHeaderSize) !== judged.maxHeaderSize)
    judged.refused.push(
      `--max-http-header-size and MAX_HEADER_BYTES must be the same, got ${judged.maxHeaderSize} and ${maxHeaderBytes}`,
    );
  return judged;
}

function valueAfter(options: readonly string[], at: number): string | undefined {
  const next = options[at + 1];
  return next?.startsWith('-') ? undefined : next;
}

function missingPermissions(): string | undefined {
  const { permission } = process;
  const needed: [option: string, isGiven: boolean][] = [
    ['--allow-child-process', permission?.has('child') ?? true],
    ['--allow-net', permission?.has('net') ?? true],
    ['--allow-fs-read=/proc/*', permission?.has('fs.read', '/proc/self') ?? true],
    ['--allow-fs-read=/sys/*', permission?.has('fs.read', '/sys/fs/cgroup') ?? true],
    [`--allow-fs-write=${tmpdir()}/*`, permission?.has('fs.write', `${tmpdir()}/bosun.sock`) ?? true],
  ];
  const missing = needed.filter(([, isGiven]) => !isGiven).map(([option]) => option);
  return missing.length === 0 ? undefined : `the kit needs ${missing.join(', ')} as well`;
}
