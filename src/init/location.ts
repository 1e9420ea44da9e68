/**
 * Where `bosun init` works: the folder of the app's package, and the root of its repository or workspace, which is the context of the image build.
 */
import { dirname, join, relative, sep } from 'node:path';
import { isSame, statOf } from '../config/working-directory.ts';
import { DetectError, workspaceFolders } from './detect.ts';
import { filesIn } from './files.ts';
import { readPackageJson } from './package-json.ts';

export interface Location {
  /** Absolute. */
  root: string;
  /** Relative to the root, with `/`; `.` is the root. */
  folder: string;
}

/** @throws DetectError if no app can be there */
export function locate(directory: string, kitFolder: string): Location {
  if (statOf(join(directory, 'package.json')) === undefined)
    throw new DetectError(
      `bosun init needs the package.json of your app, found none in ${directory}: run it in the folder of the app`,
    );
  if (directory.split(sep).includes('node_modules'))
    throw new DetectError(`bosun init must run in the folder of your app, got a folder of node_modules: ${directory}`);
  if (isSame(directory, kitFolder))
    throw new DetectError(`bosun init is for the repository of an app; ${directory} is koa-bosun itself, which has these files`);
  return { root: directory, folder: '.', ...workspaceAbove(directory) };
}

/** The workspace that has this folder as one of its packages. */
function workspaceAbove(directory: string): Location | undefined {
  for (let parent = dirname(directory), below = directory; parent !== below; below = parent, parent = dirname(parent)) {
    // A repository ends here.
    if (statOf(join(below, '.git')) !== undefined) return undefined;
    const files = filesIn(parent);
    const manifest = readPackageJson(files, 'package.json');
    const folder = relative(parent, directory).split(sep).join('/');
    if (manifest !== undefined && workspaceFolders(files, manifest).includes(folder)) return { root: parent, folder };
  }
  return undefined;
}
