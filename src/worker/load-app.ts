/**
 * From the app's module to an App: the server that it listens with, else what it exports (exports.ts). Where it does neither, the next worker
 * runs it as main, as `node FILE` does.
 */
import { existsSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Loading } from '../config/config.ts';
import type { Adoption } from './adopt.ts';
import { type App, AppError } from './app.ts';
import { messageOf, placeInStack } from './error-report.ts';
import { appOf, EXPECTED, type ExportOptions, refusalOf } from './exports.ts';
import { IDLE, whileBusy } from './idle.ts';
import { type Loaded, loadModule, runAsMain } from './module.ts';

export interface LoadOptions extends ExportOptions {
  /** What the module listens with. */
  adoption: Pick<Adoption, 'role' | 'listened'>;
  /** Called with the reason as soon as the module fails to load: Node.js may report it as uncaught too. */
  onFailed: (cause: unknown) => void;
}

/** The app must be loaded in another way, which needs a fresh process: this one has already run some of it. */
export class LoadAgain extends Error {
  override readonly name = 'LoadAgain';
  readonly change: Partial<Loading>;

  /** The message says why. */
  constructor(change: Partial<Loading>, why: string) {
    super(why);
    this.change = change;
  }
}

/** A module may listen only as main: one that says so in its source is given this long to listen all the same. */
const LISTEN_WAIT_MS = 1000;
const MENTIONS_MAIN = /\b(?:require|meta|process)\??\.main|\bmodule\??\.parent|\bargv\b|\b(?:is|es)-?main/i;
/** Before the primary ends a worker that is not ready, to say why it is not. */
const BEFORE_TIMEOUT_MS = 500;
/** Resources that keep no script alive by themselves. */
const IS_OUTPUT = /^(?:TTYWrap|PipeWrap|WriteWrap|ShutdownWrap)$/;

/** Loads the app. @throws AppError, LoadAgain */
export async function loadApp(loading: Loading, options: LoadOptions): Promise<App> {
  const { module: file } = loading;
  const { exported } = await load(loading, options);
  const { adoption } = options;
  if (adoption.role === 'port') return adoption.listened();
  const awaited = exported instanceof Promise ? await settled(exported, file) : exported;
  return (await appOf(awaited, file, options)) ?? (await listener(awaited, loading, options));
}

async function load({ module: file, asMain }: Loading, { onFailed }: LoadOptions): Promise<Loaded> {
  let loaded: Loaded | typeof IDLE;
  try {
    loaded = await whileBusy(asMain ? runAsMain(file) : loadModule(file));
  } catch (cause) {
    onFailed(cause);
    if (!existsSync(file))
      throw new AppError(`${file} does not exist; expected a module that exports ${EXPECTED} as default`, { cause });
    await placeInStack(cause, pathToFileURL(file).href);
    throw new AppError(`${file} can't be loaded: ${messageOf(cause)}`, { cause });
  }
  if (loaded !== IDLE) return loaded;
  throw new AppError(`${file} can't be loaded: its top-level await never settles`, { isPermanent: false });
}

async function settled(exported: Promise<unknown>, file: string): Promise<unknown> {
  try {
    return await exported;
  } catch (cause) {
    throw new AppError(`the promise that ${file} exports is rejected: ${messageOf(cause)}`, { cause });
  }
}

/** Waits for the module to listen. `exported` is no app. */
async function listener(exported: unknown, { module: file, asMain }: Loading, options: LoadOptions): Promise<App> {
  const hasBegunWork = process.getActiveResourcesInfo().some(resource => !IS_OUTPUT.test(resource));
  const { workerStartTimeoutMs } = options.kit.config;
  const leftMs = Math.max(0, workerStartTimeoutMs - BEFORE_TIMEOUT_MS - performance.now());
  const mayNeedMain = !asMain && MENTIONS_MAIN.test(readFileSync(file, 'utf8'));
  const timedOut = new Promise<undefined>(resolve =>
    setTimeout(resolve, mayNeedMain ? LISTEN_WAIT_MS : leftMs, undefined).unref(),
  );
  const listening = await whileBusy(Promise.race([options.adoption.listened(), timedOut]));
  if (listening !== undefined && listening !== IDLE) return listening;
  if (!asMain && (mayNeedMain || listening === IDLE))
    throw new LoadAgain({ asMain: true }, `${file} exports no app and does not listen when it is imported`);
  const listens =
    listening === IDLE
      ? 'it does not listen, and has nothing left to do'
      : `it has not listened within ${workerStartTimeoutMs} ms`;
  throw new AppError(`${refusalOf(exported, file)}; or listen on a port: ${listens}`, {
    isPermanent: listening === IDLE && !hasBegunWork,
  });
}
