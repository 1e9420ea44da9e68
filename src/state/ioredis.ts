/**
 * ioredis for the kit alone. redis.ts and redis-protocol.ts change prototypes of ioredis, for every connection, also those that a Cluster
 * client or Sentinels open by themselves. An app that uses ioredis has the unchanged ones.
 */
import type * as Ioredis from 'ioredis';
import { ownCopy } from './own-copy.ts';

const load = ownCopy();

export const { Cluster, Command, Redis } = load('ioredis') as typeof Ioredis;
export type Cluster = Ioredis.Cluster;
export type Command = Ioredis.Command;
export type Redis = Ioredis.Redis;
export type RedisOptions = Ioredis.RedisOptions;

type DataHandlerModule = typeof import('ioredis/built/DataHandler.js');
export const { default: DataHandler } = load('ioredis/built/DataHandler.js') as DataHandlerModule;

export const { Decoder } = load('ioredis/built/resp/decoder.js') as typeof import('ioredis/built/resp/decoder.js');
export type Decoder = InstanceType<typeof Decoder>;
