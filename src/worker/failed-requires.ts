/**
 * Which `require` of the app fails: the error alone does not say which ES module could not be parsed.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const REQUIRE_FAILED = 'tracing:module.require:error';

interface FailedRequire {
  error: unknown;
  id: string;
  parentFilename: string;
}

/** Notes the innermost `require` that fails, from now until `stop`. */
export class FailedRequires {
  #last: FailedRequire | undefined;

  readonly #note = (message: unknown): void => {
    const failed = message as FailedRequire;
    // The modules around it fail with the same error.
    if (failed.error !== this.#last?.error) this.#last = failed;
  };

  constructor() {
    subscribe(REQUIRE_FAILED, this.#note);
  }

  stop(): void {
    unsubscribe(REQUIRE_FAILED, this.#note);
  }

  /** The URL of the module whose `require` has failed with `error`, by that innermost of them. */
  urlOf(error: unknown): string | undefined {
    if (error !== this.#last?.error) return undefined;
    try {
      const { id, parentFilename } = this.#last as FailedRequire;
      return pathToFileURL(createRequire(parentFilename).resolve(id)).href;
    } catch {
      return undefined;
    }
  }
}
