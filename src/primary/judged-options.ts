/**
 * Options of Node.js that concern what the kit sets by itself: each holds, is warned of, or is refused with the reason; none is ignored in silence.
 * docs/node-options.md has the same table; a test holds it to this one.
 */
import { tmpdir } from 'node:os';
import { type NodeOptions, parsed } from '../resources/node-options.ts';

interface Row {
  /** For the docs: what the kit does with it. */
  effect: string;
  /** Why it can't be; undefined where it can. `place` is where it was given. */
  refuse?: (value: string | undefined, place: keyof NodeOptions) => string | undefined;
  /** What the operator should know of it. */
  warning?: string;
}

/** Signals that mean something to the primary, a worker, or to both. */
const OWN_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU', 'SIGUSR2', 'SIGURG'];
const REPORT_SIGNAL = 'SIGUSR2';

const PASSED_ON: Row = { effect: 'holds, in the primary and the workers' };
const DEBUGGER: Row = {
  effect:
    'holds; each worker has a port of its own, counted up from the primary’s; a warning, since whoever reaches the port runs code',
  warning: 'whoever reaches a debugger’s port runs code as this user',
};
const HIDDEN: Row = {
  ...DEBUGGER,
  effect:
    'holds in the primary, and in workers with `--inspect`; without, their inspector opens for the stack of a hung one only, on a free port with a secret path',
};
const WAITS: Row = {
  effect:
    'Node.js waits for a debugger before the kit runs, which then refuses it; in `WORKER_NODE_OPTIONS` it holds, until `WORKER_START_TIMEOUT_MS`',
  refuse: (_, place) => (place === 'workers' ? undefined : 'the primary waits for a debugger: give it in WORKER_NODE_OPTIONS'),
  warning: 'a worker that waits for a debugger has failed after WORKER_START_TIMEOUT_MS',
};
const CONFIG_FILE: Row = {
  effect: 'refused: give its options in `NODE_OPTIONS`',
  refuse: () => 'the kit does not see the options of a configuration file: give them in NODE_OPTIONS or WORKER_NODE_OPTIONS',
};
const ENV_FILE: Row = {
  effect: 'holds, read once; a warning, since a rolling restart does not read it again, as it does `.env`',
  warning: 'it is read once: a rolling restart does not read it again, as it does .env and secret files',
};
const SYMLINKS: Row = {
  effect: 'holds for what the app imports; a warning, since `APP_MODULE` itself is resolved to its real path at each generation',
  warning: 'APP_MODULE itself is resolved to its real path at each generation',
};
const refuseOwnSignal = (signal: string | undefined) =>
  signal !== undefined && OWN_SIGNALS.includes(signal) ? `${signal} is the kit’s own; take another, such as SIGPROF` : undefined;

export const NODE_OPTIONS = {
  'max-old-space-size': { effect: 'the heap of each worker' },
  'max-old-space-size-percentage': { effect: 'of the memory limit, shared by the workers' },
  'max-heap-size': { effect: 'the whole heap of each worker' },
  'max-semi-space-size': PASSED_ON,
  'max-http-header-size': { effect: 'is `MAX_HEADER_BYTES`; refused where that is another' },
  inspect: DEBUGGER,
  'inspect-port': HIDDEN,
  'debug-port': HIDDEN,
  'inspect-publish-uid': HIDDEN,
  'inspect-brk': WAITS,
  'inspect-wait': WAITS,
  'enable-source-maps': PASSED_ON,
  permission: {
    effect:
      'holds with `--allow-child-process`, `--allow-net`, `--allow-fs-read` of /proc, /sys and all that is loaded, and `--allow-fs-write` of the temp dir; refused without',
    refuse: () => missingPermissions(),
    warning: 'heap snapshots and CPU profiles need --allow-inspector',
  },
  'env-file': ENV_FILE,
  'env-file-if-exists': ENV_FILE,
  import: { effect: 'holds; runs in the primary, too: in `WORKER_NODE_OPTIONS` it runs in the workers alone' },
  require: { effect: 'as `--import`' },
  title: PASSED_ON,
  'disallow-code-generation-from-strings': PASSED_ON,
  conditions: PASSED_ON,
  'unhandled-rejections': PASSED_ON,
  'network-family-autoselection-attempt-timeout': PASSED_ON,
  'experimental-config-file': CONFIG_FILE,
  'experimental-default-config-file': CONFIG_FILE,
  'heapsnapshot-signal': {
    effect: `holds; refused for the kit’s own: ${OWN_SIGNALS.join(', ')}`,
    refuse: refuseOwnSignal,
  },
  'report-signal': { effect: 'as `--heapsnapshot-signal`', refuse: refuseOwnSignal },
  'report-on-signal': { effect: `holds with a \`--report-signal\` that is not ${REPORT_SIGNAL}, the default; refused without` },
  'abort-on-uncaught-exception': {
    effect: 'holds; a warning, since the other requests of that worker are lost',
    warning: 'a worker with an uncaught exception ends at once, and its other requests with it',
  },
  'preserve-symlinks': SYMLINKS,
  'preserve-symlinks-main': SYMLINKS,
} satisfies Record<string, Row>;

export interface Judged {
  refused: string[];
  warnings: string[];
  /** Bytes, as it was given. */
  maxHeaderSize: string | undefined;
}

const PLACES = { environment: 'NODE_OPTIONS', commandLine: 'command line', workers: 'WORKER_NODE_OPTIONS' } as const;

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
      if (objection !== undefined) judged.refused.push(`${where} can't be: ${objection}`);
      else if (row.warning !== undefined) judged.warnings.push(`${where}: ${row.warning}`);
    });
  }
  if (given.has('report-on-signal') && (given.get('report-signal') ?? REPORT_SIGNAL) === REPORT_SIGNAL)
    judged.refused.push(`--report-on-signal must go with another --report-signal: ${REPORT_SIGNAL} is the kit’s own`);
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
