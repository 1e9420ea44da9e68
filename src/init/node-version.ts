/**
 * Which Node.js the image has: the newest one that the project accepts, of those that the kit runs on.
 */
import { intersects, validRange } from 'semver';
import type { Files } from './files.ts';
import { below, type PackageJson } from './package-json.ts';

/** Lines of Node.js with an image, the newest first. */
export const NODE_LINES = [26, 24, 22] as const;
/** How .nvmrc names them besides a number. */
const CODENAMES: Readonly<Record<string, number>> = { jod: 22, krypton: 24 };

export interface NodeVersion {
  major: number;
  /** Where the project names it; undefined if it does not. */
  from: string | undefined;
  /** What the project wants, if the kit does not run on it. */
  refused: string | undefined;
}

/** `folders` are searched in this order: the package, and the root of its repository. */
export function detectNode(files: Files, folders: readonly string[], manifests: readonly PackageJson[]): NodeVersion {
  const named = [
    ...folders
      .flatMap(folder => ['.nvmrc', '.node-version'].map(file => below(folder, file)))
      .map(file => [file, files.read(file)?.trim()]),
    ...manifests.flatMap(({ volta, engine }) => [
      ['volta.node', volta],
      ['engines.node', engine],
    ]),
  ];
  const [from, wanted] = named.find(([, text]) => text !== undefined && text !== '') ?? [];
  const [newest] = NODE_LINES;
  if (from === undefined || wanted === undefined) return { major: newest, from: undefined, refused: undefined };
  const range = rangeOf(wanted);
  const major = range === undefined ? undefined : NODE_LINES.find(line => intersects(range, String(line)));
  return { major: major ?? newest, from, refused: major === undefined ? wanted : undefined };
}

/** `lts/*`, `node` and the names of lines are nvm's. */
function rangeOf(text: string): string | undefined {
  const [, codename] = /^lts\/(.+)$/.exec(text) ?? [];
  if (text === 'node' || text === 'stable' || codename === '*') return '*';
  if (codename !== undefined) return String(CODENAMES[codename.toLowerCase()] ?? '') || undefined;
  return validRange(text) === null ? undefined : text;
}
