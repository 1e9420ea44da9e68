/**
 * What `bosun dev` adds to the configuration: the command writes it into one variable of its environment, which the primary and its workers
 * inherit. Nobody else sets that variable.
 */

export interface DevSettings {
  /** Files to watch besides those that the app loads: globs, relative to the working directory. */
  watch: string[];
  /** Open the browser once the app serves. */
  open: boolean;
  /** Log JSON lines, also on a terminal. */
  json: boolean;
  /** Undefined for no inspector. */
  inspect: InspectorAddress | undefined;
}

/** Of the first worker's inspector; those of the others follow on the next ports. */
export interface InspectorAddress {
  host: string;
  port: number;
  /** Each worker waits for a debugger before it loads the app. */
  isAwaited: boolean;
}

const VARIABLE = 'BOSUN_DEV';

export const devEnvironment = (settings: DevSettings): Record<string, string> => ({ [VARIABLE]: JSON.stringify(settings) });

/** Undefined outside `bosun dev`. */
export function devSettingsOf({ [VARIABLE]: json }: Readonly<Record<string, string | undefined>>): DevSettings | undefined {
  return json ? (JSON.parse(json) as DevSettings) : undefined;
}

/** Removes the settings from the environment of a worker: the app and its child processes do not see them. */
export function forgetDevSettings(environment: Record<string, string | undefined>): void {
  delete environment[VARIABLE];
}
