import { dirname } from 'node:path';
import type { Coverage } from './coverage.ts';
import type { Mutant } from './instrument.ts';
import { Worker, type Ending, type TimedTest } from './worker-process.ts';

/** What became of a mutant. `endless` is noticed, too: a test that ends without it does not end with it. */
export const fates = ['killed', 'endless', 'survived', 'not covered'] as const;
export type Fate = (typeof fates)[number];

const loadMs = 120_000;

/**
 * Tells which mutants the tests notice, one after the other in one warm process. What may be the doing of that
 * process, of an earlier mutant or of a slow machine is tried again in a new one, beside the same test without the mutant.
 */
export class Judge {
  readonly #sandbox: string;
  readonly #coverage: Coverage;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #importers: (file: string) => readonly string[];
  readonly #files: readonly string[];
  #warm: Worker | undefined;

  constructor(options: {
    readonly sandbox: string;
    readonly coverage: Coverage;
    /** The file of each mutant, by id. */
    readonly sources: ReadonlyMap<string, string>;
    /** The files that import one directly. */
    readonly importers: (file: string) => readonly string[];
  }) {
    this.#sandbox = options.sandbox;
    this.#coverage = options.coverage;
    this.#sources = options.sources;
    this.#importers = options.importers;
    this.#files = filesOf(Object.keys(options.coverage.tests));
  }

  async fateOf(mutant: Mutant): Promise<Fate> {
    if (this.#coverage.atLoad.includes(mutant.id)) return this.#fateAtLoad(mutant);
    const tests = this.#ranked(mutant, ({ hits }) => hits[mutant.id] !== undefined);
    if (tests.length === 0) return 'not covered';
    const worker = await this.#warmWorker();
    const ending = await worker.run({ mutant: mutant.id }, tests);
    const test = tests.find(({ id }) => id === ('id' in ending ? ending.id : ''));
    if (ending.kind === 'allPassed' || test === undefined) {
      return ending.kind === 'allPassed' ? 'survived' : this.#fateAlone(mutant, tests);
    }
    if (ending.kind === 'failed' && ending.isCaught) {
      const without = await worker.run({}, [patient(test)]);
      if (without.kind === 'allPassed') return ending.isEndless ? 'endless' : 'killed';
    }
    // Whatever is left of it here must not meet the next one.
    worker.stop();
    const alone = await this.#confirmed(mutant, test);
    return alone ?? this.#fateAlone(mutant, tests);
  }

  stop(): void {
    this.#warm?.stop();
  }

  async #warmWorker(): Promise<Worker> {
    if (this.#warm !== undefined && !this.#warm.isGone) return this.#warm;
    this.#warm = new Worker(this.#sandbox, { files: [...this.#files] });
    const loaded = await this.#warm.loaded(loadMs);
    if (loaded.kind !== 'loaded') throw new Error(`the tests cannot be loaded: ${loaded.why}`);
    return this.#warm;
  }

  /** What one test makes of it in a process of its own, if it goes well there without it. */
  async #confirmed(mutant: Mutant, test: TimedTest): Promise<Fate | undefined> {
    const worker = new Worker(this.#sandbox, { files: filesOf([test.id]) });
    try {
      if ((await worker.loaded(loadMs)).kind !== 'loaded') return undefined;
      const began = Date.now();
      const without = await worker.run({}, [patient(test)]);
      if (without.kind !== 'allPassed') return undefined;
      const deadlineMs = 3000 + 10 * (Date.now() - began);
      return noticed(await worker.run({ mutant: mutant.id }, [{ ...test, deadlineMs }]));
    } finally {
      worker.stop();
    }
  }

  /** In a process of its own, with time enough. */
  async #fateAlone(mutant: Mutant, tests: readonly TimedTest[]): Promise<Fate> {
    const worker = new Worker(this.#sandbox, { files: filesOf(tests.map(({ id }) => id)) });
    try {
      const loaded = await worker.loaded(loadMs);
      if (loaded.kind !== 'loaded') throw new Error(`tests cannot be loaded: ${loaded.why}`);
      return noticed(await worker.run({ mutant: mutant.id }, tests.map(patient))) ?? 'survived';
    } finally {
      worker.stop();
    }
  }

  /**
   * Of code that runs when it is loaded: in a process in which it is on from the beginning, by the tests that come by its
   * file or one that imports it.
   */
  async #fateAtLoad(mutant: Mutant): Promise<Fate> {
    const near = new Set([mutant.file, ...this.#importers(mutant.file)]);
    const isNear = (id: string) => near.has(this.#sources.get(id) ?? '');
    const tests = this.#ranked(mutant, ({ hits }) => Object.keys(hits).some(isNear));
    if (tests.length === 0) return 'not covered';
    const files = filesOf(tests.map(({ id }) => id));
    const on = { id: mutant.id, maxHits: 1_000_000 };
    const worker = new Worker(this.#sandbox, { files, mutant: on });
    try {
      const loaded = await worker.loaded(loadMs);
      if (loaded.kind !== 'loaded') return 'killed';
      return noticed(await worker.run({ mutant: mutant.id }, tests)) ?? 'survived';
    } finally {
      worker.stop();
    }
  }

  /** The tests that come by it: those beside its source first, and of these the short ones. */
  #ranked(mutant: Mutant, isAsked: (test: Test) => boolean): readonly TimedTest[] {
    const rank = (id: string, { milliseconds }: Test) => {
      const file = fileOf(id);
      const isNamesake = file === mutant.file.replace(/\.ts$/, '.test.ts');
      const isBeside = dirname(file) === dirname(mutant.file);
      return milliseconds / (isNamesake ? 100 : isBeside ? 10 : 1);
    };
    return Object.entries(this.#coverage.tests)
      .filter(([, test]) => isAsked(test))
      .toSorted(([a, one], [b, other]) => rank(a, one) - rank(b, other))
      .map(([id, { hits, milliseconds }]) => ({
        id,
        maxHits: 1000 + 100 * (hits[mutant.id] ?? 0),
        deadlineMs: 2000 + 5 * milliseconds,
      }));
  }
}

type Test = Coverage['tests'][string];

/** Time enough on any machine for what ends at all. */
function patient(test: TimedTest): TimedTest {
  return { ...test, deadlineMs: 60_000 + 20 * test.deadlineMs };
}

function noticed(ending: Ending): Fate | undefined {
  if (ending.kind === 'allPassed') return undefined;
  return ending.kind === 'late' || (ending.kind === 'failed' && ending.isEndless)
    ? 'endless'
    : 'killed';
}

function fileOf(id: string): string {
  return id.slice(0, id.indexOf('#'));
}

function filesOf(ids: readonly string[]): string[] {
  return [...new Set(ids.map(fileOf))];
}
