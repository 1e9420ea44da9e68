/**
 * How processes of the kit end: the exit codes of the primary and its workers, and why a worker exits.
 */

/** Exit codes of the primary (docs/reference/exit-codes.md). Workers use `ok` and `failed`. */
export const ExitCode = {
  ok: 0,
  failed: 1,
  /** EX_SOFTWARE: the workers keep crashing. */
  crashLoop: 70,
  /** EX_CONFIG: bad configuration. */
  badConfig: 78,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export const EXIT_CODE_MEANINGS = {
  0: 'a clean drain: no request was aborted',
  1: 'requests were aborted, a second signal arrived, or the first start failed: at once if a retry cannot help (a syntax error, a missing module, a wrong export, `EADDRINUSE`, `EACCES`), otherwise after `START_TIMEOUT_MS`',
  70: 'workers keep crashing, and none serves (`RESTART_INTENSITY`, `RESTART_PERIOD_MS`)',
  78: 'bad configuration: every problem is named, with what was expected; also a memory limit in which not even one worker can run',
} as const satisfies Record<ExitCode, string>;

/** Exit codes of `bosun`, as in sysexits. */
export const CliExitCode = { ok: 0, failed: 1, usage: 64, unavailable: 69, notPermitted: 77, badConfig: 78 } as const;
export type CliExitCode = (typeof CliExitCode)[keyof typeof CliExitCode];

export const CLI_EXIT_CODE_MEANINGS = {
  0: 'success',
  1: 'failure',
  64: 'wrong usage',
  69: 'no primary',
  77: 'not permitted',
  78: 'bad configuration',
} as const satisfies Record<CliExitCode, string>;

interface ReasonFacts {
  /** `planned`: the primary decided it. */
  kind: 'planned' | 'failure';
  /** The app's failure: such exits use up RESTART_INTENSITY. */
  isCrash: boolean;
  meaning: string;
}

const planned = (meaning: string): ReasonFacts => ({ kind: 'planned', isCrash: false, meaning });
const crash = (meaning: string): ReasonFacts => ({ kind: 'failure', isCrash: true, meaning });

/** Why a worker exits: every exit has exactly one reason. */
export const EXIT_REASONS = {
  crash: crash('the app threw an error that nobody caught, ended its process, or could not be started'),
  oom: crash('the kernel killed it for lack of memory'),
  hung: crash('it did not report for WORKER_HEARTBEAT_TIMEOUT_MS'),
  'start-timeout': crash('it was not ready within WORKER_START_TIMEOUT_MS'),
  'named-port': planned('PORT is not set, and the app listens on another port than 3000: the next worker starts with that port'),
  'recycled-requests': planned('it has answered WORKER_MAX_REQUESTS'),
  'recycled-rss': planned('it used more memory than WORKER_MAX_RSS_MB, or the pool is short of memory'),
  'recycled-age': planned('it is older than WORKER_MAX_AGE_MS'),
  'load-again': planned('the app must be loaded in another way, as main for example: the next worker does that'),
  restart: planned('a restart replaced it'),
  'scale-down': planned('the pool became smaller'),
  shutdown: planned('the pod shuts down'),
  killed: { kind: 'failure', isCrash: false, meaning: 'somebody sent it SIGKILL or SIGTERM' },
} as const satisfies Record<string, ReasonFacts>;
export type ExitReason = keyof typeof EXIT_REASONS;

/** Whether such an exit is the app's failure. */
export const isCrash = (reason: ExitReason | undefined): boolean => reason !== undefined && EXIT_REASONS[reason].isCrash;

/** Whether the primary did not decide such an exit. */
export const isFailure = (reason: ExitReason | undefined): boolean =>
  reason !== undefined && EXIT_REASONS[reason].kind === 'failure';
