import { describe } from 'node:test';
import { lockContract } from './lock.fixture.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';

describe('the lock of a SQLite datastore', () => lockContract(() => openSqliteStore(':memory:')));
