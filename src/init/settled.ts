/** Which choices hold after a run that keeps edited files. */
import { isDeepStrictEqual } from 'node:util';
import type { Choices } from './detect.ts';
import type { Planned } from './plan.ts';
import type { InitRecord } from './record.ts';
import { type Step, textIn } from './write.ts';

/**
 * The choices, with the recorded value of each one that no file has: all files that it changes have been edited, and are kept.
 *
 * @param planOf the plan by other choices
 */
export function settled(
  choices: Choices,
  record: InitRecord,
  all: readonly Step[],
  planOf: (choices: Choices) => readonly Planned[] | undefined,
): Choices {
  const held = { ...choices };
  if (all.every(({ state }) => state !== 'options')) return held;
  for (const key of Object.keys(choices) as (keyof Choices)[]) {
    if (isDeepStrictEqual(choices[key], record.choices[key])) continue;
    const recorded = { [key]: record.choices[key] };
    const other = planOf({ ...choices, ...recorded });
    const changed = all.filter(({ planned }) => textIn(other ?? [], planned.path) !== textIn([planned], planned.path));
    if (other !== undefined && changed.every(({ state }) => state === 'options')) Object.assign(held, recorded);
  }
  return held;
}
