/**
 * What waits to be sent in order, while its receiver is away too: batches, one at a time, each until it is through. Bounded: the oldest goes first.
 */

const BATCH = 100;

export interface OutboxLimits {
  mostMessages: number;
  mostBytes: number;
}

export class Outbox {
  /** Messages that were given up, because too many waited. */
  dropped = 0;
  readonly #send: (batch: readonly string[]) => Promise<void>;
  readonly #limits: OutboxLimits;
  #waiting: string[] = [];
  #bytes = 0;
  #isSending = false;

  /** `send` takes all of a batch or rejects; one that was rejected is sent again, so that a message may come twice, and never out of order. */
  constructor(send: (batch: readonly string[]) => Promise<void>, limits: OutboxLimits) {
    this.#send = send;
    this.#limits = limits;
  }

  get size(): number {
    return this.#waiting.length;
  }

  push(text: string): void {
    this.#waiting.push(text);
    this.#bytes += text.length;
    while (this.#waiting.length > this.#limits.mostMessages || this.#bytes > this.#limits.mostBytes) {
      this.#bytes -= this.#waiting.shift()?.length ?? 0;
      this.dropped++;
    }
    void this.flush();
  }

  /** Sends what waits; to be called again when the receiver is back. */
  async flush(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.slice(0, BATCH);
        const droppedBefore = this.dropped;
        await this.#send(batch);
        // Of this batch as many have been given up meanwhile as were dropped: they were the oldest.
        const sent = this.#waiting.splice(0, Math.max(0, batch.length - (this.dropped - droppedBefore)));
        this.#bytes -= sent.reduce((sum, { length }) => sum + length, 0);
      }
    } catch {
      // Away: all of it waits for the next flush.
    } finally {
      this.#isSending = false;
    }
  }
}
