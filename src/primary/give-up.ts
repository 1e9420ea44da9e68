/**
 * Why a primary gives up: its exit code, and the message for the log.
 */
import type { Config } from '../config/config.ts';
import type { GiveUpReason } from '../pool/failures.ts';
import { ExitCode } from '../protocol/messages.ts';

type Limits = Pick<Config, 'startTimeoutMs' | 'restartIntensity' | 'restartPeriodMs'>;

/** `last` is the worker that failed last. */
export function explain(
  why: GiveUpReason,
  last: { id: number; failure: string | undefined },
  limits: Limits,
): { code: ExitCode; message: string } {
  const failure = `worker ${last.id}: ${last.failure}`;
  switch (why) {
    case 'permanent':
      return { code: ExitCode.failed, message: last.failure ?? failure };
    case 'start-timeout': {
      const message = `no worker became ready within ${limits.startTimeoutMs} ms (START_TIMEOUT_MS); last failure: ${failure}`;
      return { code: ExitCode.failed, message };
    }
    case 'crash-loop': {
      const budget = `more than ${limits.restartIntensity} times within ${limits.restartPeriodMs} ms (RESTART_INTENSITY, RESTART_PERIOD_MS)`;
      return { code: ExitCode.crashLoop, message: `workers keep crashing: ${budget}, and none serves; last failure: ${failure}` };
    }
    default:
      return why satisfies never;
  }
}
