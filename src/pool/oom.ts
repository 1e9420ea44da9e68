/**
 * Tells the kernel's kill for lack of memory from anybody else's: by the counter of the container's cgroup.
 */
import type { ReadText, UsageFiles } from '../resources/cgroup.ts';
import { readUsage } from '../resources/usage.ts';

export class OomWatch {
  readonly #kills: () => number | null;
  #explained: number | null;

  constructor(read: ReadText, files: UsageFiles) {
    this.#kills = () => readUsage(read, files).oomKills;
    this.#explained = this.#kills();
  }

  /** Asked once for each worker that somebody has killed; a kill of the kernel's explains one of them. */
  whoKilled(): 'oom' | 'killed' {
    const kills = this.#kills();
    if (kills === null || this.#explained === null || kills <= this.#explained) return 'killed';
    this.#explained++;
    return 'oom';
  }
}
