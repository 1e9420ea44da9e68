/**
 * Which worker has which inspector port under `bosun dev --inspect`: consecutive ones from that of the command. A new worker takes over the port of an
 * old one, which gets it back if the new one does not start.
 */
import type { InspectorAddress } from '../config/inherited.ts';
import type { WorkerProcess } from './worker-process.ts';

type Holder = Pick<WorkerProcess, 'id' | 'generation' | 'isActive' | 'state' | 'isServing' | 'send' | 'onExit'>;

export class InspectorPorts {
  readonly #first: InspectorAddress;
  readonly #holders = new Map<number, Holder>();

  constructor(first: InspectorAddress) {
    this.#first = first;
  }

  /** The address for a new worker of this generation; `take` is to be called with it once it is there. */
  assign(generation: number): { at: InspectorAddress; take: (worker: Holder) => void } {
    const port = this.#portFor(generation);
    const at = { ...this.#first, port };
    const before = this.#holders.get(port);
    if (before?.isActive) before.send({ type: 'inspector' });
    const take = (worker: Holder) => {
      this.#holders.set(port, worker);
      worker.onExit(() => this.#exited(worker, port, before, at));
    };
    return { at, take };
  }

  /** The lowest one that is free, else that of the oldest worker of an earlier generation. */
  #portFor(generation: number): number {
    for (let port = this.#first.port; ; port++) {
      const holder = this.#holders.get(port);
      if (holder === undefined || !holder.isActive || holder.generation < generation) return port;
    }
  }

  #exited(worker: Holder, port: number, before: Holder | undefined, at: InspectorAddress): void {
    if (this.#holders.get(port) !== worker) return;
    if (before?.isServing) {
      this.#holders.set(port, before);
      before.send({ type: 'inspector', at });
    } else this.#holders.delete(port);
  }
}
