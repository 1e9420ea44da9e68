/**
 * What an export is, by its structure: the app brings its own framework, perhaps of another version. The rules are tried in their order, so
 * that an object with the marks of two shapes is the first of them. A framework that the kit can't serve as it is has a rule too, with the line
 * to write instead.
 */

/** Shapes that are served, or lead to one that is. */
export type ServedShape =
  | 'nest'
  | 'fastify'
  | 'hapi'
  | 'koa'
  | 'server'
  | 'node-adapter'
  | 'fetch'
  | 'class'
  | 'listener'
  | 'factory'
  | 'callback'
  | 'wrapper';
type RefusedShape =
  | 'http2-server'
  | 'socket-server'
  | 'next'
  | 'apollo'
  | 'h3-1'
  | 'h3-1-handler'
  | 'router'
  | 'express-module'
  | 'koa-class'
  | 'nest-module'
  | 'fastify-plugin'
  | 'lambda'
  | 'response'
  | 'array';
export type Shape = ServedShape | RefusedShape;

interface Rule {
  /** `depth`: how many more objects around the app may be opened. */
  is: (value: unknown, depth: number) => boolean;
  /** For logs and errors: "got a Koa app". */
  name: string;
}
interface Refusal extends Rule {
  /** The line to write. */
  instead: string;
}

/** The functions that make a shape: of the value itself or of its class. */
const withMethods =
  (...names: string[]) =>
  (value: unknown): boolean =>
    names.every(name => hasMethod(value, name));

const callable =
  (is: (value: Callable) => boolean) =>
  (value: unknown): boolean =>
    typeof value === 'function' && is(value as Callable);

/** A function, or a class. */
export type Callable = ((...args: never[]) => unknown) & { prototype?: object };

/** A symbol that fastify-plugin sets on the function it wraps. */
const FASTIFY_PLUGIN = Symbol.for('skip-override');

export const RULES: Record<ServedShape, Rule> & Record<RefusedShape, Refusal> = {
  nest: { name: 'a NestJS app', is: withMethods('getHttpAdapter', 'getHttpServer', 'init', 'listen', 'close') },
  fastify: {
    name: 'a Fastify app',
    is: value => withMethods('ready', 'inject', 'listen', 'close')(value) && hasServer(value, 'server'),
  },
  hapi: { name: 'a Hapi server', is: value => withMethods('initialize', 'start', 'stop')(value) && hasServer(value, 'listener') },
  koa: { name: 'a Koa app', is: value => typeof value === 'object' && withMethods('callback', 'use')(value) },
  server: { name: 'an http.Server', is: value => isServer(value) && isHttp(value) && !isHttp2(value) },
  'socket-server': {
    name: 'a server of node:net',
    is: value => isServer(value) && !isHttp(value),
    instead: 'export a server of node:http',
  },
  'http2-server': {
    name: 'a server of node:http2',
    is: value => isServer(value) && isHttp2(value),
    instead: 'leave HTTP/2 to the proxy in front, and export http.createServer(app) or app itself',
  },
  'node-adapter': { name: 'a request listener', is: callable(withMethods('requestListener')) },
  fetch: { name: 'an object with fetch(Request)', is: withMethods('fetch') },
  next: {
    name: 'a Next.js app',
    is: withMethods('prepare', 'getRequestHandler'),
    instead: 'await app.prepare(); export default app.getRequestHandler()',
  },
  apollo: {
    name: 'an ApolloServer',
    is: withMethods('executeOperation', 'executeHTTPGraphQLRequest'),
    instead: 'mount it: app.use(koaMiddleware(server)) or app.use(expressMiddleware(server)), and export app',
  },
  'h3-1': {
    name: 'an app of h3 version 1',
    is: value => withMethods('use', 'handler')(value) && isH3Handler(read(value, 'handler')),
    instead: 'export default toNodeListener(app)',
  },
  'h3-1-handler': { name: 'an event handler of h3', is: isH3Handler, instead: 'export default toNodeListener(app)' },
  router: {
    name: 'a router of Express',
    is: callable(value => withMethods('handle', 'route', 'param')(value) && !hasMethod(value, 'listen')),
    instead: 'const app = express(); app.use(router); export default app',
  },
  'express-module': {
    name: 'the function express itself',
    is: callable(withMethods('Router', 'static')),
    instead: 'export default app, where app = express()',
  },
  'koa-class': {
    name: 'the class Koa itself',
    is: callable(value =>
      ['callback', 'handleRequest', 'createContext'].every(name => Object.hasOwn(value.prototype ?? {}, name)),
    ),
    instead: 'export default app, where app = new Koa()',
  },
  'nest-module': {
    name: 'a NestJS module',
    is: callable(isNestModule),
    instead: 'export default await NestFactory.create(AppModule)',
  },
  class: {
    name: 'a class',
    is: callable(
      value => /^class\b/.test(sourceOf(value)) || (isObject(value.prototype) && shapeOf(value.prototype) !== undefined),
    ),
  },
  'fastify-plugin': {
    name: 'a Fastify plugin',
    is: callable(value => FASTIFY_PLUGIN in value || /^fastify\b|^\w+,_?(opts|options)$/.test(parametersOf(value, 2))),
    instead: 'const app = Fastify(); app.register(plugin); export default app',
  },
  lambda: {
    name: 'a handler of events, as for AWS Lambda',
    is: callable(value => /^_?event\b/.test(parametersOf(value, 1))),
    instead: 'export the app that it wraps',
  },
  listener: { name: 'a request listener', is: callable(value => value.length >= 2) },
  factory: { name: 'a function (kit)', is: callable(() => true) },
  response: {
    name: 'a Response',
    is: value => typeof value === 'object' && withMethods('arrayBuffer', 'clone')(value) && 'headers' in (value as object),
    instead: 'export default { fetch }, where fetch is that function',
  },
  callback: { name: 'an object with callback()', is: value => typeof value === 'object' && hasMethod(value, 'callback') },
  array: { name: 'an array', is: Array.isArray, instead: 'export one app' },
  wrapper: { name: 'an object around an app', is: (value, depth) => wrapped(value, depth) !== undefined },
};

const SHAPES = Object.entries<Rule>(RULES) as [Shape, Rule][];

/** Of objects around an app, one in the other. */
const MAX_DEPTH = 3;

/** The first shape whose rule holds; undefined if none does. Runs no code of the app but getters. */
export function shapeOf(value: unknown, depth = MAX_DEPTH): Shape | undefined {
  return SHAPES.find(([, { is }]) => is(value, depth))?.[0];
}

/** The properties in which modules keep their app. A server comes first: it may have more listeners than its app. */
const WRAPPERS = ['server', 'httpServer', 'app', 'handler', 'listener', 'default'] as const;

/** The app in `{ app }`, `{ server }` and the like; undefined if there is none. A method is bound to its object. */
export function wrapped(value: unknown, depth = MAX_DEPTH): unknown {
  if (!isObject(value) || depth === 0) return undefined;
  for (const key of WRAPPERS) {
    const inner = read(value, key);
    const shape = shapeOf(inner, depth - 1);
    // A function under these names is a listener, and makes no app.
    if (shape === undefined || (shape === 'factory' && (key === 'handler' || key === 'listener'))) continue;
    return shape === 'listener' && !hasMethod(inner, 'handle') ? bind(inner as Callable, value) : inner;
  }
  return undefined;
}

function bind(method: Callable, owner: object): object {
  const bound = (...args: never[]): unknown => Reflect.apply(method, owner, args);
  return Object.defineProperty(bound, 'length', { value: method.length });
}

export function isObject(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Whether `value` itself or its class has this function. A proxy that answers every name, as itty-router's, does not have it. */
export function hasMethod(value: unknown, name: string): boolean {
  return (isObject(value) || typeof value === 'function') && name in value && typeof read(value, name) === 'function';
}

/** A property of any value. A getter that throws, as one on a prototype may, counts as undefined. */
export function read(value: unknown, name: string): unknown {
  try {
    return Reflect.get(Object(value), name);
  } catch {
    return undefined;
  }
}

const isServer = withMethods('listen', 'close', 'address', 'getConnections', 'emit');

const isHttp = (value: unknown): boolean => hasMethod(value, 'setTimeout');

const isHttp2 = (value: unknown): boolean => hasMethod(value, 'updateSettings');

function hasServer(value: unknown, name: string): boolean {
  return isServer(read(value, name));
}

function isH3Handler(value: unknown): boolean {
  return typeof value === 'function' && '__is_handler__' in value;
}

/** By the metadata that its decorator has left. */
function isNestModule(value: Callable): boolean {
  const getKeys = read(Reflect, 'getMetadataKeys');
  return (
    typeof getKeys === 'function' &&
    getKeys(value).some((key: unknown) => key === 'imports' || key === 'controllers' || key === 'providers')
  );
}

function sourceOf(value: Callable): string {
  return Function.prototype.toString.call(value);
}

/** The names of the first `count` parameters, with commas: "req,res". Empty where the source shows none. */
function parametersOf(value: Callable, count: number): string {
  const list = /^(?:async\s+)?(?:function\b\s*\*?\s*)?(?:[\w$]*\s*\(([^)]*)\)|([\w$]+)\s*=>)/.exec(sourceOf(value));
  const names = (list?.[1] ?? list?.[2] ?? '').split(',').map(name => /^\s*([\w$]*)/.exec(name)?.[1] ?? '');
  return names.slice(0, count).join(',');
}
