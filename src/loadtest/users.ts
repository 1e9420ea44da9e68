/**
 * Users with cookies. Each logs in under a name of its own and counts its visits; the app must count the same, whichever worker
 * answers, and must never know it under another name.
 */
import { get, kindOf, type Load, type Sink } from './generator.ts';
import { pause } from './measure.ts';

/** Visits are a human's, not a flood: what is tested is the session. */
const PAUSE_MS = 5;

/** `rate`: visits per second of all of them, each when it is due and its user is back from the last; 0: as fast as the pauses allow. */
export function users(origin: string, count: number, rate: number, sink: Sink): Load {
  const run = Math.random().toString(36).slice(2, 8);
  const everyMs = rate === 0 ? 0 : (1000 * count) / rate;
  const over = new AbortController();
  const all = Array.from({ length: count }, (_, index) => live(new User(origin, `user-${run}-${index}`), index / count));
  async function live(user: User, share: number): Promise<void> {
    let dueAt = performance.now() + everyMs * share;
    for (;;) {
      await pause(dueAt - performance.now(), over.signal);
      if (over.signal.aborted) return;
      const since = rate === 0 ? performance.now() : dueAt;
      const problem = await user.visit();
      if (problem === undefined) sink.answered(performance.now() - since);
      else sink.failed(problem);
      dueAt = rate === 0 ? performance.now() + PAUSE_MS : dueAt + everyMs;
    }
  }
  return {
    stop: async () => {
      over.abort();
      await Promise.all(all);
    },
  };
}

class User {
  readonly #origin: string;
  readonly #name: string;
  readonly #cookies = new Map<string, string>();
  #visits = 0;
  #loggedIn = false;

  constructor(origin: string, name: string) {
    this.#origin = origin;
    this.#name = name;
  }

  /** What went wrong, if anything did. The connection is a new one, so that any worker may get it. */
  async visit(): Promise<string | undefined> {
    try {
      if (!this.#loggedIn) {
        await this.#get(`/login?user=${this.#name}`);
        this.#loggedIn = true;
      }
      const { counter, user } = JSON.parse(await this.#get('/api/counter')) as { counter?: unknown; user?: unknown };
      this.#visits++;
      const seen = { counter, user };
      if (seen.user === this.#name && seen.counter === this.#visits) return undefined;
      const verdict = seen.user === undefined ? 'session lost' : seen.user !== this.#name ? 'session mixed up' : 'visits lost';
      this.#visits = Number(seen.counter) || 0; // one loss counts once
      if (seen.user !== this.#name) this.#forget();
      return verdict;
    } catch (error) {
      return kindOf(error);
    }
  }

  #forget(): void {
    this.#cookies.clear();
    this.#loggedIn = false;
    this.#visits = 0;
  }

  async #get(path: string): Promise<string> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const { status, headers, body } = await get(`${this.#origin}${path}`, false, cookie ? { cookie } : {});
    for (const line of headers['set-cookie'] ?? []) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      this.#cookies.set(name, value);
    }
    if (status !== 200) throw new Error(`status ${status} from ${path.split('?')[0]}`);
    return body;
  }
}
