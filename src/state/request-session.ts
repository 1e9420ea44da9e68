/**
 * The session of one request, shared by all its mounts and app contexts: read once, and written when the last mount ends.
 */
import type Koa from 'koa';

/** koa-session's `ctx.session`, as far as it is needed here. */
interface Model {
  maxAge: unknown;
  /** Writes what has changed; ends the session where it was set to null. */
  manuallyCommit(): Promise<void>;
  /** Writes it in any case. */
  save(): Promise<void>;
}

/** What koa-session adds to a context. */
export interface SessionHolder {
  session: Model | null;
  readonly sessionOptions: unknown;
}

export class RequestSession {
  readonly #holder: SessionHolder;
  /** The object that is written; undefined until the session is first used. */
  #model: Model | undefined;
  /** How many mounts run in each context. */
  readonly #mounts = new Map<Koa.Context, number>();
  /** What was last written; undefined if nothing was. */
  #written: string | undefined;

  constructor(holder: SessionHolder) {
    this.#holder = holder;
  }

  /** Marks the session as used: it is written at the end if it has changed or must be renewed. */
  load(): Model | null {
    const { session } = this.#holder;
    this.#model ??= session ?? undefined;
    return session;
  }

  /** Runs the middleware below a mount, with `ctx.session`. */
  async around(ctx: Koa.Context, next: Koa.Next): Promise<void> {
    const others = this.#mounts.get(ctx) ?? 0;
    this.#mounts.set(ctx, others + 1);
    if (others === 0) this.#expose(ctx);
    try {
      await next();
    } finally {
      const left = (this.#mounts.get(ctx) ?? 0) - 1;
      this.#mounts.set(ctx, left);
      if (left === 0) await this.#write();
    }
  }

  #expose(ctx: Koa.Context): void {
    Object.defineProperties(ctx, {
      session: {
        get: () => this.load(),
        set: (value: Model | null) => {
          this.load();
          this.#holder.session = value;
        },
        configurable: true,
      },
      sessionOptions: { get: () => this.#holder.sessionOptions, configurable: true },
    });
  }

  /** Writes changes when the last mount of a context has ended: a nested app answers before the outer one is done. */
  async #write(): Promise<void> {
    if (this.#model === undefined) return;
    if (this.#written === undefined) await this.#model.manuallyCommit();
    else if (this.#written !== this.#state()) await this.#model.save();
    this.#written = this.#state();
  }

  #state(): string {
    const { session } = this.#holder;
    return JSON.stringify([session, session?.maxAge]);
  }
}
