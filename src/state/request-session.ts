/**
 * The session of one request, whichever middleware and whichever app's context ask for it: read once, and written where the outermost
 * mount ends.
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

/** What koa-session makes of a context. */
export interface SessionHolder {
  session: Model | null;
  readonly sessionOptions: unknown;
}

export class RequestSession {
  readonly #holder: SessionHolder;
  /** By any model the holder is written; undefined where nobody has asked for the session yet. */
  #model: Model | undefined;
  /** Contexts in which a mount runs. */
  readonly #mounted = new Set<Koa.Context>();
  /** What was last written; undefined where nothing was. */
  #written: string | undefined;

  constructor(holder: SessionHolder) {
    this.#holder = holder;
  }

  /** Asks for the session: it is written at the end, where it has changed or is to be renewed. */
  load(): Model | null {
    const { session } = this.#holder;
    this.#model ??= session ?? undefined;
    return session;
  }

  /** Runs what a mount is around of, with `ctx.session`. */
  async around(ctx: Koa.Context, next: Koa.Next): Promise<void> {
    if (this.#mounted.has(ctx)) return next();
    this.#mounted.add(ctx);
    this.#expose(ctx);
    try {
      await next();
    } finally {
      this.#mounted.delete(ctx);
      await this.#write();
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

  /** Each mount that is in no other one writes, where there is something new: an app inside an app answers before the outer one is done. */
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
