/**
 * Which worker serves which listening socket ("slot"). With one slot all workers share it. With several (`reuseport`) the kernel
 * spreads connections over the slots, and each slot must have somebody who accepts from it at any time. Pure.
 */

export class Slots {
  /** The workers that serve each slot which is listened on. A slot that ever was stays so: closing it would lose its queue. */
  readonly #servers: Set<number>[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** For a worker that starts: what nobody serves, else the slot that fewest serve. */
  forNewcomer(wanted: number): number[] {
    this.#open(wanted);
    const orphans = this.all.filter(slot => this.#serversOf(slot).size === 0);
    return orphans.length > 0 ? orphans : [this.#fewestServers()];
  }

  /**
   * Spreads the slots anew over the workers `serving` (ids), changing as little as possible; `wanted` is the size of the pool.
   * @returns what each of them serves
   */
  assign(serving: readonly number[], wanted: number): Map<number, number[]> {
    this.#open(wanted);
    for (const servers of this.#servers) for (const id of servers) if (!serving.includes(id)) servers.delete(id);
    if (serving.length > 0) {
      for (const id of serving) if (this.#slotsOf(id).length === 0) this.#employ(id, serving);
      for (const slot of this.all) if (this.#serversOf(slot).size === 0) this.#man(slot, serving);
    }
    return new Map(serving.map(id => [id, this.#slotsOf(id)]));
  }

  /** Every slot that is listened on. */
  get all(): number[] {
    return [...this.#servers.keys()];
  }

  #open(wanted: number): void {
    while (this.#servers.length < Math.min(wanted, this.#most)) this.#servers.push(new Set());
  }

  /** A worker without a slot takes over one of a worker that has several, one that nobody serves, or shares. */
  #employ(id: number, serving: readonly number[]): void {
    const orphan = this.all.find(slot => this.#serversOf(slot).size === 0);
    const overworked = serving.find(other => this.#slotsOf(other).length > 1);
    const slot = orphan ?? (overworked === undefined ? this.#fewestServers() : this.#slotsOf(overworked).at(-1)) ?? 0;
    if (orphan === undefined && overworked !== undefined) this.#serversOf(slot).delete(overworked);
    this.#serversOf(slot).add(id);
  }

  /** A slot without a worker gets one that shares another slot, or one more for the worker that has the fewest. */
  #man(slot: number, serving: readonly number[]): void {
    const shared = this.#servers.find(servers => servers.size > 1);
    const [mover] = shared ?? [];
    const [leastBusy = 0] = serving.toSorted((a, b) => this.#slotsOf(a).length - this.#slotsOf(b).length);
    if (mover !== undefined) shared?.delete(mover);
    this.#serversOf(slot).add(mover ?? leastBusy);
  }

  #serversOf(slot: number): Set<number> {
    return this.#servers[slot] ?? new Set();
  }

  #slotsOf(id: number): number[] {
    return this.all.filter(slot => this.#serversOf(slot).has(id));
  }

  #fewestServers(): number {
    return this.all.toSorted((a, b) => this.#serversOf(a).size - this.#serversOf(b).size)[0] ?? 0;
  }
}
