/**
 * `bosun dev`: a save of a file that the app has loaded is a rolling restart. An error of the new code is shown once, here and on the dashboard, while the
 * old workers go on serving; the next save tries again.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { DevSettings } from '../config/inherited.ts';
import { workingDirectory } from '../config/working-directory.ts';
import type { Pool } from '../pool/pool.ts';
import type { RollingRestart } from '../pool/resizer.ts';
import type { DevStatus } from '../protocol/api.ts';
import type { LifecycleEvent } from '../protocol/events.ts';
import type { ErrorReport, LoadedFile } from '../protocol/messages.ts';
import { FileWatcher } from './file-watcher.ts';

export interface DevContext extends Pick<Pool, 'supervisor' | 'log'> {
  settings: DevSettings;
  restarts: Pick<RollingRestart, 'request'>;
}

/** A save that is being loaded. */
interface Reload {
  seenAt: number;
  /** No old worker serves any more; new ones may still start where there were none. */
  isReplaced: boolean;
}

export class DevLoop {
  readonly #context: DevContext;
  readonly #directory = workingDirectory();
  readonly #watcher: FileWatcher;
  readonly #packages = new Set<string>();
  #reload: Reload | undefined;
  #error: DevStatus['error'] = null;
  /** The process whose error was shown last. */
  #failedPid = 0;

  constructor(context: DevContext) {
    this.#context = context;
    this.#watcher = new FileWatcher(this.#directory, context.settings.watch, (paths, seenAt) => void this.#onSave(paths, seenAt));
    for (const file of ['.env', 'package.json']) this.#watcher.add(join(this.#directory, file));
  }

  get status(): DevStatus {
    return { error: this.#error };
  }

  /** A worker has loaded these files, or has looked for them. */
  onLoaded(files: readonly LoadedFile[]): void {
    for (const { path, version } of files) {
      this.#watcher.add(path, version);
      this.#watchPackageOf(path);
    }
  }

  onEvent(event: LifecycleEvent): void {
    switch (event.event) {
      case 'app.listening':
        this.#listening(event.url);
        break;
      case 'worker.ready':
        this.#finish();
        break;
      case 'worker.draining': {
        // An app that crashes may take seconds to finish its other requests: the error is shown now.
        const { error } = this.#context.supervisor.handles.find(({ pid }) => pid === event.workerPid) ?? {};
        if (event.reason === 'crash' && error !== undefined) this.#fail(event.workerPid, error.message, error);
        break;
      }
      case 'worker.exit':
        if (event.isFailure) this.#fail(event.workerPid, event.failure ?? event.reason, event.error);
        break;
      case 'reload.refused':
        this.#fail(0, event.problems.join('\n'), undefined);
        break;
      default: // what the log has is enough
    }
  }

  /** The first worker serves. */
  #listening(url: string): void {
    const { log, settings } = this.#context;
    log().info({ event: 'dev.watching', url, files: this.#watcher.count });
    if (!settings.open) return;
    void import('./browser.ts')
      .then(({ openBrowser }) => openBrowser(url))
      .catch((error: Error) => log().info({ event: 'dev.not-opened', url, error: error.message }));
  }

  async #onSave(paths: readonly string[], seenAt: number): Promise<void> {
    const { log, restarts, supervisor } = this.#context;
    const reload: Reload = { seenAt, isReplaced: false };
    this.#reload = reload;
    log().info({ event: 'dev.reload', files: paths.map(path => relative(this.#directory, path)) });
    supervisor.abandonStarts();
    try {
      await restarts.request(() => undefined);
    } catch {
      if (this.#reload === reload) this.#reload = undefined; // its error was an event
      return;
    }
    reload.isReplaced = true;
    this.#finish();
  }

  #finish(): void {
    const { log, supervisor } = this.#context;
    if (supervisor.serving.length < supervisor.wanted) return;
    if (this.#reload?.isReplaced !== true) return;
    log().info({ event: 'dev.reloaded', ms: Math.round(performance.now() - this.#reload.seenAt) });
    this.#reload = undefined;
    this.#error = null;
  }

  #fail(pid: number, message: string, report: ErrorReport | undefined): void {
    if (pid !== 0 && pid === this.#failedPid) return;
    this.#failedPid = pid;
    const { log, supervisor } = this.#context;
    const note = supervisor.serving.length > 0 ? 'the code of before goes on serving' : 'nothing serves until the next save';
    const stack = report?.stack ?? message;
    this.#error = { at: Date.now(), message, stack, ...(report && { summary: report.summary }) };
    log().error({ event: 'dev.failed', note, error: message, stack });
  }

  /** What package.json says decides how its files are loaded. */
  #watchPackageOf(path: string): void {
    const folder = dirname(path);
    if (this.#packages.has(folder)) return;
    this.#packages.add(folder);
    const file = join(folder, 'package.json');
    if (existsSync(file)) this.#watcher.add(file);
    else if (dirname(folder) !== folder) this.#watchPackageOf(folder);
  }
}
