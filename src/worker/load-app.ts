/**
 * From the app's module to an App: the server that it listens with, else what it exports (exports.ts). Where it does neither, the next worker
 * runs it as main, as `node FILE` does.
 */
import { existsSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Loading } from '../config/inherited.ts';
import type { Adoption } from './adopt.ts';
import type { App } from './app.ts';
import { AppError, messageOf, placeOf } from './error-report.ts';
import { appOf, EXPECTED, type ExportOptions, refusalOf } from './exports.ts';
import { FailedRequires, type Loaded, loadModule, runAsMain } from './module.ts';
import { onceIdle } from './process.ts';

export interface LoadOptions extends ExportOptions {
  /** What the module listens with. */
  adoption: Pick<Adoption, 'role' | 'listened'>;
  /** Called with the reason as soon as the module fails to load: Node.js may report it as uncaught too. */
  onFailed: (cause: unknown) => void;
}

type ModuleOptions = Pick<LoadOptions, 'onFailed'> & {
  /** What the module must export, for the error where there is no such file. */
  expected: string;
};

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
/** A module that exports an app, and calls `listen` in its source outside a test for main, is given this long to listen. */
const OWN_LISTEN_WAIT_MS = 5000;
const MENTIONS_LISTEN = /\.listen\s*\(/;
/** Before the primary ends a worker that is not ready, to say why it is not. */
const BEFORE_TIMEOUT_MS = 500;
/** Resources that keep no script alive by themselves. */
const IS_OUTPUT = /^(?:TTYWrap|PipeWrap|WriteWrap|ShutdownWrap)$/;

/** Nothing is left that could go on: under plain Node.js the process would end. */
export const IDLE: unique symbol = Symbol('idle');

/** Loads the app. @throws AppError, LoadAgain */
export async function loadApp(loading: Loading, options: LoadOptions): Promise<App> {
  const { module: file } = loading;
  const { exported } = await load(loading, { ...options, expected: `a module that exports ${EXPECTED} as default` });
  const { adoption } = options;
  if (adoption.role === 'port') return adoption.listened();
  const awaited = exported instanceof Promise ? await settled(exported, file) : exported;
  const app = await appOf(awaited, file, options);
  if (app === undefined) return listener(awaited, loading, options);
  return (await ownServer(file, adoption)) ?? app;
}

/** What the module exports as default. @throws AppError, LoadAgain */
export async function loadExports(loading: Loading, options: ModuleOptions): Promise<unknown> {
  const { exported } = await load(loading, options);
  return exported instanceof Promise ? settled(exported, loading.module) : exported;
}

async function load(loading: Loading, { onFailed, expected }: ModuleOptions): Promise<Loaded> {
  const { module: file, asMain, loader } = loading;
  let loaded: Loaded | typeof IDLE;
  if (loader !== undefined) await (await import('./typescript.ts')).useLoader(loader, file);
  const failedRequires = new FailedRequires();
  try {
    loaded = await whileBusy(asMain ? runAsMain(file) : loadModule(file));
  } catch (cause) {
    onFailed(cause);
    if (!existsSync(file)) {
      const own = `${file} does not exist`;
      throw new AppError(`${own}; expected ${expected}`, { own, cause });
    }
    throw await loadingError(cause, loading, failedRequires);
  } finally {
    failedRequires.stop();
  }
  if (loaded !== IDLE) return loaded;
  const own = `${file} can't be loaded: its top-level await never settles`;
  throw new AppError(own, { own, isPermanent: false });
}

/** What to throw for `cause`, with which the module failed to load. */
async function loadingError(cause: unknown, { module: file, loader }: Loading, failed: FailedRequires): Promise<Error> {
  const { placeInStack } = await import('./syntax-error.ts');
  await placeInStack(cause, failed.urlOf(cause) ?? pathToFileURL(file).href);
  const { findLoader, TYPESCRIPT_ADVICE, whyLoader } = await import('./typescript.ts');
  const why = loader === undefined ? whyLoader(cause, file) : undefined;
  if (why !== undefined) {
    const found = findLoader(file);
    if (found !== undefined) return new LoadAgain({ loader: found }, why);
    return new AppError(`${file} can't be loaded: ${why}; ${TYPESCRIPT_ADVICE}`, { cause });
  }
  const [reason] = messageOf(cause).split('\nRequire stack:');
  const place = placeOf(cause);
  return new AppError(`${file} can't be loaded: ${reason}${place === undefined ? '' : ` (${place.file}:${place.line})`}`, {
    cause,
  });
}

async function settled(exported: Promise<unknown>, file: string): Promise<unknown> {
  try {
    return await exported;
  } catch (cause) {
    throw new AppError(`the promise that ${file} exports is rejected: ${messageOf(cause)}`, { cause });
  }
}

/**
 * The server on PORT of a module that exports an app as well, and listens once its database has answered, say: before, it is not ready. Undefined
 * where it does not listen in time.
 */
async function ownServer(file: string, adoption: LoadOptions['adoption']): Promise<App | undefined> {
  const source = readFileSync(file, 'utf8');
  if (!MENTIONS_LISTEN.test(source) || MENTIONS_MAIN.test(source)) return undefined;
  const timedOut = new Promise<undefined>(resolve => setTimeout(resolve, OWN_LISTEN_WAIT_MS, undefined).unref());
  const listening = await whileBusy(Promise.race([adoption.listened(), timedOut]));
  return adoption.role === 'port' && listening !== IDLE ? listening : undefined;
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
    own: `${file} exports no app, and ${listens}`,
    isPermanent: listening === IDLE && !hasBegunWork,
  });
}

/** Resolves as `work` does, or with IDLE once nothing is left that could settle it. */
export async function whileBusy<T>(work: Promise<T>): Promise<T | typeof IDLE> {
  const { promise: idle, resolve } = Promise.withResolvers<typeof IDLE>();
  const onIdle = () => {
    process.channel?.ref(); // the channel to the primary keeps the process alive
    // In a turn of its own: what follows may wait again, and Node.js emits the event once a turn.
    setImmediate(resolve, IDLE);
  };
  const cancel = onceIdle(onIdle);
  process.channel?.unref();
  try {
    return await Promise.race([work, idle]);
  } finally {
    cancel();
    process.channel?.ref();
  }
}
