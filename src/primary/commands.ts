/**
 * Carries out what a signal asks for.
 */
import type { Diagnostics } from '../control/diagnostics.ts';
import type { Resizer } from '../pool/resizer.ts';
import type { RollingRestart } from '../pool/rolling-restart.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { Shutdown } from './shutdown.ts';
import type { Command } from './signals.ts';

export interface Parts {
  supervisor: Supervisor;
  resizer: Resizer;
  restarts: RollingRestart;
  diagnostics: Diagnostics;
  shutdown: Shutdown;
}

export function carryOut(command: Command, { supervisor, resizer, restarts, diagnostics, shutdown }: Parts): void {
  // Failures and refusals are logged; there is no one to answer.
  const scale = (count: number) =>
    void resizer.scale({ kind: 'count', count: Math.max(1, count) }, false, supervisor).catch(() => undefined);
  switch (command) {
    case 'shutdown':
      shutdown.begin();
      break;
    case 'exit-now':
      shutdown.exitAtOnce();
      break;
    case 'restart':
      // What fails has been logged, and there is nobody to tell.
      restarts.ask(() => undefined).catch(() => undefined);
      break;
    case 'heap-snapshot':
      void diagnostics.snapshotAll(supervisor.serving);
      break;
    case 'ignore':
      break;
    case 'one-more':
      scale(supervisor.wanted + 1);
      break;
    case 'one-fewer':
      scale(supervisor.wanted - 1);
      break;
    default:
      command satisfies never;
  }
}
