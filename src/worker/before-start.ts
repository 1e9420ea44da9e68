/**
 * The process of BEFORE_START: it loads that module as a worker loads the app, calls what it exports, and exits. The primary waits for it
 * (primary/before-start.ts).
 */
import { readWorkerConfig } from '../config/config.ts';
import { BEFORE_START_VARIABLE, inheritedOf } from '../config/inherited.ts';
import { createLog, type Log } from '../log/log.ts';
import { ExitCode } from '../protocol/exit.ts';
import { AppError, messageOf, reportOf } from './error-report.ts';
import { typeName } from './kit/arguments.ts';
import { IDLE, LoadAgain, loadExports, whileBusy } from './load-app.ts';
import { exitAfterOutput, exitWithoutPrimary, sendToPrimary } from './process.ts';

/** Runs this process as that of BEFORE_START. */
export async function runBeforeStart(environment: NodeJS.ProcessEnv): Promise<void> {
  exitWithoutPrimary(environment);
  delete environment[BEFORE_START_VARIABLE]; // a primary that the module starts must be a primary
  const { loading } = inheritedOf(environment);
  const config = readWorkerConfig(environment);
  const log = createLog(config.logLevel, { pid: process.pid }, line => process.stdout.write(line));
  process.once('disconnect', () => process.exit(ExitCode.failed)); // without a primary
  process.on('SIGINT', () => undefined); // of a terminal: the primary decides
  // Nothing waits for this process but the start: it may print all it has. The primary ends it at START_TIMEOUT_MS.
  const exit = (code: ExitCode) => exitAfterOutput(code, config.startTimeoutMs);
  process.once('uncaughtException', error => fail(error, exit));
  try {
    const expected = 'the module of BEFORE_START, which exports a function as default';
    const exported = await loadExports(loading, { onFailed: () => undefined, expected });
    await call(exported, loading.module, { config, log: log() });
    exit(ExitCode.ok);
  } catch (error) {
    if (!(error instanceof LoadAgain)) return fail(error, exit);
    sendToPrimary({ type: 'load-again', ...loading, ...error.change, why: error.message });
    exit(ExitCode.ok);
  }
}

async function call(exported: unknown, file: string, context: { config: unknown; log: Log }): Promise<void> {
  if (typeof exported !== 'function') {
    throw new AppError(`${file} (BEFORE_START) must export a function as default, got ${typeName(exported)}`);
  }
  const result = await whileBusy(
    (async () => {
      await exported(context);
    })(),
  );
  if (result === IDLE)
    throw new AppError(`the promise of ${file} (BEFORE_START) never settles: nothing is left that could settle it`);
}

function fail(error: unknown, exit: (code: ExitCode) => void): void {
  const report = reportOf(error);
  const message = error instanceof AppError ? report.message : `BEFORE_START failed: ${messageOf(error)}`;
  sendToPrimary({ type: 'failed', stage: 'app', ...report, message });
  exit(ExitCode.failed);
}
