/** Words that the project does not use, each with the word that it uses instead (docs/architecture.md has the glossary). */

export interface Rule {
  /** Whole words, in prose and inside of identifiers (`tellAll`, `onTell`): lower case, as alternatives. */
  words: string;
  use: string;
  /** Lines in which the word has another meaning. */
  unless?: RegExp;
  /** Files in which it has: Redis calls its servers master and replica, and its shards slots; throng has an option `master`. */
  exceptIn?: RegExp;
}

export const RULES: readonly Rule[] = [
  {
    words: 'master|slave',
    use: 'primary, worker, replica',
    unless: /isMaster/,
    exceptIn: /redis|pubsub|event-bus|connection|environment|variables|config-fields|reference.kit|CHANGELOG|accounts|migrating/,
  },
  { words: 'board', use: 'scoreboard' },
  { words: 'door|doors', use: 'accept gate' },
  { words: 'bell|bells|rung', use: 'wake-up signal' },
  { words: 'distrust|distrusts|distrusted', use: 'suspect, suspected' },
  { words: 'intake|intakes', use: 'listener' },
  { words: 'slot|slots', use: 'listener assignment', exceptIn: /redis|failures/ },
  { words: 'surplus', use: 'excess connections' },
  { words: 'blame|blames', use: 'drain progress' },
  { words: 'in peace', use: 'closed gracefully' },
  { words: 'relay|relays', use: 'event bus' },
  { words: 'journal', use: 'stream', unless: /koa:sess:journal|'journal(?:@2)?'/ },
  { words: 'outbox|inbox', use: 'send queue, stream consumer' },
  { words: 'beat|beats', use: 'heartbeat', exceptIn: /peers|event-bus/ },
  { words: 'turnover', use: 'recycling' },
  { words: 'last words|lastwords', use: 'termination message' },
  { words: 'lateness|loop is late|loop was late', use: 'event loop delay' },
  { words: 'by lot|much chance|is chance', use: 'at random, noise' },
  { words: 'tell|tells|told|telling', use: 'send, report, log' },
  { words: 'hear|hears|heard', use: 'receive' },
  { words: 'ask|asks|asked|asking', use: 'request, query, call', exceptIn: /redis-protocol/ },
  { words: 'is away|are away|was away|being away', use: 'is unreachable' },
  { words: 'to be had', use: 'available' },
  { words: 'anew', use: 'again' },
  { words: 'whoever', use: 'a client that, a caller that' },
  { words: 'on its way|on their way', use: 'in flight' },
  { words: 'hands|means|parts', use: 'Deps, Options, Context (as type names)', unless: /[^A-Z](hands|means|parts)/ },
  { words: 'most_\\w+|least_\\w+', use: 'MAX_, MIN_', unless: /[^A-Z_](most|least)/ },
];

/** Words that write-good objects to, and that technical documentation needs; it compares them with their case. */
export const ALLOWED: string[] = [
  ...[
    'it is',
    'It is',
    'it was',
    'There are no',
    'So many',
    'at this time',
    'in between',
    'type of',
    'a number',
    'all of',
    'All of',
  ],
  ...['few', 'many', 'several', 'Several', 'however', 'therefore', 'additional', 'equivalent', 'multiple', 'previous'],
  ...[
    'component',
    'expiration',
    'maintain',
    'maximum',
    'Maximum',
    'minimum',
    'monitor',
    'request',
    'retain',
    'terminate',
    'utilization',
  ],
];
