/**
 * A rolling restart: the settings are read again, refused or taken, and then every worker is replaced. One at a time; asked for
 * while one runs, another one follows, once for all that ask.
 */
import { ConfigError } from '../config/config.ts';
import type { Emit } from '../protocol/events.ts';
import type { OnStep } from './replacer.ts';
import type { Resizer } from './resizer.ts';
import type { Settings } from './settings.ts';
import type { Supervisor } from './supervisor.ts';

interface Parts {
  settings: Settings;
  resizer: Resizer;
  supervisor: Supervisor;
  emit: Emit;
}

export class RollingRestart {
  readonly #parts: Parts;
  #running: Promise<void> | undefined;
  #following: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Resolves when all workers are of the new generation.
   * @throws ConfigError before any worker is touched; ReplacementError where the roll ends early and the old ones go on, or has lost requests
   */
  async ask(onStep: OnStep): Promise<void> {
    if (this.#running === undefined) {
      // In a turn of its own: a reload that is refused at once ends before it would be noted as running, and then for ever.
      this.#running = Promise.resolve().then(() => this.#run(onStep));
      return this.#running;
    }
    onStep('a rolling restart is under way: this one follows it');
    this.#following ??= this.#running.catch(() => undefined).then(() => this.#run(onStep));
    return this.#following;
  }

  async #run(onStep: OnStep): Promise<void> {
    const { settings, resizer, supervisor, emit } = this.#parts;
    try {
      const takeBack = settings.reload();
      resizer.reload(settings, supervisor);
      await supervisor.restartAll(onStep).catch(error => {
        // The old workers go on, and their later replacements must be able to start too.
        if (supervisor.serving.length > 0) {
          takeBack();
          resizer.reload(settings, supervisor);
        }
        throw error;
      });
    } catch (error) {
      if (error instanceof ConfigError) {
        emit({ event: 'reload.refused', problems: error.problems });
        const problems = error.problems.length === 1 ? '1 problem' : `${error.problems.length} problems`;
        supervisor.refused(`bad configuration: ${problems}, see reload.refused in the log`);
      }
      throw error;
    } finally {
      this.#running = this.#following;
      this.#following = undefined;
    }
  }
}
