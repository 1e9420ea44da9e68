/**
 * The route of a request: the pattern that its router has matched, such as `/users/:id`, else its folded path. Routes are labels of metrics, and
 * shown to anyone who can reach the admin port: a folded path keeps its first word only, as the second one of `/users/smith` may be a name.
 */
import type { IncomingMessage } from 'node:http';
import { MAX_ROUTE, OTHER_ROUTE } from '../protocol/snapshot.ts';
import { pathOf } from './connections.ts';
import { isRefused } from './error-list.ts';

/** What a framework has made of a request: Koa's context, or Fastify's request. Set on the request where routes are wanted (follow-routes.ts). */
export const FRAMEWORK = Symbol('bosun.framework');

/** Express sets `route` and `baseUrl`; a mounted app gets another `url`. */
export type RoutedRequest = IncomingMessage & {
  [FRAMEWORK]?: object;
  originalUrl?: string;
  baseUrl?: unknown;
  route?: unknown;
  params?: unknown;
};

const MAX_SEGMENTS = 8;
const MAX_FOLDED_CHARACTERS = 1024;
const ID = ':id';

/**
 * The label `route` of a request that was answered with this status. A client can make up paths: where none of the app's routes is matched, they are
 * labels only if the app has answered them.
 */
export function routeLabel(request: RoutedRequest, status: number): string {
  const isUnknown = (status >= 400 && status < 500) || isRefused(request);
  return matchedRoute(request) ?? (isUnknown ? OTHER_ROUTE : foldPath(urlOf(request)));
}

/** To be called once the app has answered: before, its router may not have run. */
export function routeOf(request: RoutedRequest): string {
  return matchedRoute(request) ?? foldPath(urlOf(request));
}

/** As `routeOf`, but a folded path keeps all its words. It may hold names: not to be shown. */
export function internalRouteOf(request: RoutedRequest): string {
  return matchedRoute(request) ?? foldIds(urlOf(request));
}

/** The pattern that a router of Koa, Express, NestJS or Fastify has matched; undefined if there is none, or it can't be read. */
export function matchedRoute(request: RoutedRequest): string | undefined {
  try {
    const framework = request[FRAMEWORK];
    const pattern = framework === undefined ? read(request.route, 'path') : patternOf(framework);
    if (typeof pattern !== 'string' && !(pattern instanceof RegExp) && !Array.isArray(pattern)) return undefined;
    const base = typeof request.baseUrl === 'string' ? request.baseUrl : '';
    return clean(withPrefix(String(pattern), base, request)) || undefined;
  } catch {
    return undefined; // a getter of the app that throws
  }
}

const urlOf = ({ originalUrl, url = '' }: RoutedRequest): string => (typeof originalUrl === 'string' ? originalUrl : url);

const read = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;

/** Of Koa Router, or of Fastify. */
function patternOf(framework: object): unknown {
  const pattern = read(framework, '_matchedRoute') ?? read(read(framework, 'routeOptions'), 'url');
  // Koa Router also sets that of its middleware, whose patterns have groups, and which may have ended the request.
  if (typeof pattern !== 'string' || !pattern.includes('(')) return pattern;
  const matched = read(framework, 'matched');
  const layers: unknown[] = Array.isArray(matched) ? matched : [];
  const serves = (layer: unknown) => {
    const methods = read(layer, 'methods');
    return Array.isArray(methods) && methods.includes(read(framework, 'method'));
  };
  return read(layers.findLast(serves), 'path') ?? pattern;
}

/** A pattern whose number of segments depends on the path. */
const VARIABLE_LENGTH = /[*+?(){}\\]/;

/**
 * `pattern` with the path at which its router is mounted, folded. `base` is that path where Express has kept it: after an error it has not, and Koa
 * never does. Then it is what the path has before the segments of the pattern.
 */
function withPrefix(pattern: string, base: string, request: RoutedRequest): string {
  if (!pattern.startsWith('/') || VARIABLE_LENGTH.test(pattern))
    return base === '' ? pattern : foldMount(base, request.params) + pattern;
  const own = segmentsOf(pattern);
  const all = segmentsOf(pathOf(urlOf(request)));
  const prefix = all.slice(0, Math.max(0, all.length - own.length));
  if (prefix.length === 0) return pattern;
  return `${foldMount(`/${prefix.join('/')}`, request.params)}${own.length === 0 ? '' : pattern}`;
}

/** The path at which a router is mounted: its words, unless they are values of parameters that the router knows. */
function foldMount(path: string, params: unknown): string {
  const values = new Set<unknown>(Object.values(Object(params)));
  return fold(path, segment => isWord(segment) && !values.has(segment));
}

const segmentsOf = (path: string): string[] => path.split('/').filter(segment => segment !== '');

/** Printable and bounded: it is the text of the app's author. */
const clean = (route: string): string => route.slice(0, MAX_ROUTE).replace(/[^\x20-\x7e]/g, '?');

/**
 * A path as a route that anyone may see: all but its first word becomes `:id`. A prefix such as `/api/v1` does not count.
 */
export function foldPath(url: string): string {
  let isFirst = true;
  return fold(url, segment => {
    if (isFirst && (PREFIX.test(segment) || VERSION.test(segment))) return true;
    const isKept = isFirst && isWord(segment);
    isFirst = false;
    return isKept;
  });
}

/** A path as a route, with all its words: such as `users`, `sign-in` and `getUser`, versions, and names of files without digits. */
export function foldIds(url: string): string {
  return fold(url, isWord);
}

function fold(url: string, isKept: (segment: string) => boolean): string {
  const path = pathOf(url);
  if (path !== '' && !path.startsWith('/')) return OTHER_ROUTE;
  const segments = segmentsOf(path.slice(0, MAX_FOLDED_CHARACTERS));
  const folded = segments.slice(0, MAX_SEGMENTS).map(segment => (isKept(segment) ? segment : ID));
  const route = `/${folded.join('/')}${segments.length > MAX_SEGMENTS ? '/*' : ''}`;
  return route.length <= MAX_ROUTE ? route : `${route.slice(0, route.lastIndexOf('/', MAX_ROUTE - 2))}/*`;
}

const VERSION = /^v\d{1,2}$/i;
/** Before what names a route. */
const PREFIX = /^(?:api|rest|\.well-known)$/i;
const EXTENSION = /\.(?:css|gif|html?|ico|jpe?g|js|json|map|mjs|pdf|php|png|svg|txt|wasm|webp|woff2?|xml)$/;
const MAX_WORDS = 4;
const MAX_WORD = 20;
/** `users`, `Users`, `getUser`, `API`. */
const WORD = /^(?:[A-Z]{1,6}|[A-Z]?[a-z]*(?:[A-Z][a-z]+)*)$/;
/** Letters alone that no word has. */
const TOKEN = /^[a-f]{8,}$|[^aeiouy]{6}/i;

function isWord(segment: string): boolean {
  if (VERSION.test(segment)) return true;
  const words = segment.replace(EXTENSION, '').replace(/^\./, '').split(/[-_]/);
  return words.length <= MAX_WORDS && words.every(word => word.length <= MAX_WORD && WORD.test(word) && !TOKEN.test(word));
}
