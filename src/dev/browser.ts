/**
 * Opens the browser: by the program that BROWSER names, or by the one that the system has for that.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const OPENERS: Partial<Record<NodeJS.Platform, [string, ...string[]]>> = {
  darwin: ['open'],
  win32: ['cmd', '/c', 'start', '""'],
};

/** Resolves once the program has started. @throws the system's error where there is none, as in a container */
export async function openBrowser(url: string, { BROWSER }: NodeJS.ProcessEnv = process.env): Promise<void> {
  const [program, ...options] = BROWSER ? [BROWSER] : (OPENERS[process.platform] ?? ['xdg-open']);
  const child = spawn(program, [...options, url], { stdio: 'ignore', detached: true });
  child.unref();
  await once(child, 'spawn');
}
