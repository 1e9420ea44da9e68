/**
 * A breaker before something that may be away: after some failures in a row it is not asked any more, and who asks is told so at once,
 * until a probe has found it well again.
 */

/** As many in a row, and the next one is not tried. */
const FAILURES = 3;
/** From the end of one probe to the begin of the next. */
const PROBE_EVERY_MS = 100;

export interface BreakerParts {
  /** Rejects while it is away. */
  probe: () => Promise<unknown>;
  /** Whether an error means that it is away, and not that it is there and says no. */
  isAway: (error: unknown) => boolean;
  /** What is said to those who ask in vain. */
  refusal: () => Error;
}

export class Breaker {
  readonly #parts: BreakerParts;
  #failures = 0;
  #isProbing = false;

  constructor(parts: BreakerParts) {
    this.#parts = parts;
  }

  get isOpen(): boolean {
    return this.#failures >= FAILURES;
  }

  /** Runs an operation. @throws its error, or the refusal */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    if (this.isOpen) throw this.#parts.refusal();
    try {
      const result = await operation();
      this.#failures = 0;
      return result;
    } catch (error) {
      if (!this.#parts.isAway(error)) this.#failures = 0;
      else this.#failed();
      throw error;
    }
  }

  #failed(): void {
    this.#failures++;
    if (!this.isOpen || this.#isProbing) return;
    this.#isProbing = true;
    void this.#probe();
  }

  async #probe(): Promise<void> {
    try {
      await this.#parts.probe();
      this.#failures = 0;
      this.#isProbing = false;
    } catch {
      // It is still away; nobody waits for this.
      setTimeout(() => void this.#probe(), PROBE_EVERY_MS).unref();
    }
  }
}
