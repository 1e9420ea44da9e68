/**
 * The version of this kit.
 */
import { createRequire } from 'node:module';

// Not imported: it lies outside of what the package compiles.
export const VERSION = (createRequire(import.meta.url)('../../package.json') as { version: string }).version;
