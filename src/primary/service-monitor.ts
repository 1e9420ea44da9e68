/**
 * Warnings about the name of the service: a renamed package that keeps its earlier name, and other apps that use the same one. Each is logged once.
 */
import { renamedWarning, type Service, SHARED_WARNING } from '../config/service.ts';
import type { LogSource } from '../log/log.ts';

const POLL_EVERY_MS = 1000;
/** Anyone who can write to Redis can invent more. */
const MAX_STRANGERS = 20;

/** What the event bus knows. */
interface Fleet {
  readonly names: { readonly name: string } | undefined;
  readonly strangers: readonly string[];
}

export class ServiceMonitor {
  readonly #service: Service;
  readonly #fleet: Fleet;
  readonly #log: LogSource;
  readonly #strangers = new Set<string>();
  #hasWarned = false;

  constructor(service: Service, fleet: Fleet, log: LogSource) {
    this.#service = service;
    this.#fleet = fleet;
    this.#log = log;
  }

  start(): void {
    setInterval(() => this.tick(), POLL_EVERY_MS).unref();
  }

  /** To be called once a second. */
  tick(): void {
    const { names, strangers } = this.#fleet;
    const service = names?.name ?? this.#service.name;
    if (!this.#hasWarned && service !== this.#service.name) {
      this.#hasWarned = true;
      this.#log().warn({ event: 'service.renamed', service, app: this.#service.app, warning: renamedWarning(service) });
    }
    for (const app of strangers) {
      if (this.#strangers.has(app) || this.#strangers.size >= MAX_STRANGERS) continue;
      this.#strangers.add(app);
      this.#log().warn({ event: 'service.shared', service, app, warning: SHARED_WARNING });
    }
  }
}
