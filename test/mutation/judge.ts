import { dirname } from 'node:path';
import type { Coverage } from './coverage.ts';
import type { Mutant } from './instrument.ts';
import { Worker, type Ending, type TimedTest } from './worker-process.ts';

/** What became of a mutant. `endless` is noticed, too: a test that ends without it does not end with it. */
export const fates = ['killed', 'endless', 'survived', 'not covered'] as const;
export type Fate = (typeof fates)[number];
export interface Verdict {
  readonly fate: Fate;
  /** The test that noticed it. */
  readonly test?: string | undefined;
}

const loadMs = 120_000;
/** How long tests of other folders than a mutant's may take together; beyond that they hardly ever notice one. */
const farMs = 2000;

/**
 * Tells which mutants the tests notice, one after the other in warm processes; mutants of one folder follow each other.
 * What may be the doing of that process, of an earlier mutant or of a slow machine is tried again in a new one, beside
 * the same test without the mutant.
 */
export class Judge {
  readonly #sandbox: string;
  readonly #coverage: Coverage;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #importers: (file: string) => readonly string[];
  readonly #earlier: (mutant: Mutant) => string | undefined;
  readonly #files: readonly string[];
  /** Two processes for the mutants of one folder: with the tests of that folder, and with all others. */
  readonly #warm = new Map<'near' | 'far', Worker>();
  #folder: string | undefined;

  constructor(options: {
    readonly sandbox: string;
    readonly coverage: Coverage;
    /** The file of each mutant, by id. */
    readonly sources: ReadonlyMap<string, string>;
    /** The files that import one directly. */
    readonly importers: (file: string) => readonly string[];
    /** The test that noticed a mutant in an earlier run, perhaps of other code. */
    readonly earlier: (mutant: Mutant) => string | undefined;
  }) {
    this.#earlier = options.earlier;
    this.#sandbox = options.sandbox;
    this.#coverage = options.coverage;
    this.#sources = options.sources;
    this.#importers = options.importers;
    this.#files = filesOf(Object.keys(options.coverage.tests));
  }

  async fateOf(mutant: Mutant): Promise<Verdict> {
    if (this.#coverage.atLoad.includes(mutant.id)) return this.#fateAtLoad(mutant);
    const tests = this.#ranked(mutant, ({ hits }) => hits[mutant.id] !== undefined);
    if (tests.length === 0) return { fate: 'not covered' };
    if (this.#folder !== folderOf(mutant.file)) this.stop();
    this.#folder = folderOf(mutant.file);
    const place = ({ id }: TimedTest) => this.#placeOf(fileOf(id));
    // The first is a test of another folder only if it noticed the mutant before.
    const first = tests[0] === undefined ? 'near' : place(tests[0]);
    for (const now of [first, first === 'near' ? 'far' : 'near'] as const) {
      const verdict = await this.#fateBy(
        mutant,
        now,
        tests.filter((test) => place(test) === now),
      );
      if (verdict.fate !== 'survived') return verdict;
    }
    return { fate: 'survived' };
  }

  /** What the tests of one process make of it. */
  async #fateBy(
    mutant: Mutant,
    place: 'near' | 'far',
    tests: readonly TimedTest[],
  ): Promise<Verdict> {
    if (tests.length === 0) return { fate: 'survived' };
    const worker = await this.#warmWorker(place);
    const ending = await worker.run({ mutant: mutant.id }, tests);
    const test = tests.find(({ id }) => id === ('id' in ending ? ending.id : ''));
    if (ending.kind === 'allPassed') return { fate: 'survived' };
    if (test === undefined) return this.#fateAlone(mutant, tests);
    if (ending.kind === 'failed' && ending.isCaught) {
      const without = await worker.run({}, [patient(test)]);
      if (without.kind === 'allPassed') return noticed(ending);
    }
    // Whatever is left of it here must not meet the next one.
    worker.stop();
    const alone = await this.#confirmed(mutant, test);
    return alone ?? this.#fateAlone(mutant, tests);
  }

  stop(): void {
    for (const worker of this.#warm.values()) worker.stop();
    this.#warm.clear();
  }

  #placeOf(test: string): 'near' | 'far' {
    return folderOf(test) === this.#folder ? 'near' : 'far';
  }

  async #warmWorker(place: 'near' | 'far'): Promise<Worker> {
    const known = this.#warm.get(place);
    if (known !== undefined && !known.isGone) return known;
    const files = this.#files.filter((file) => this.#placeOf(file) === place);
    const worker = new Worker(this.#sandbox, { files });
    this.#warm.set(place, worker);
    const loaded = await worker.loaded(loadMs);
    if (loaded.kind !== 'loaded') throw new Error(`the tests cannot be loaded: ${loaded.why}`);
    return worker;
  }

  /** What one test makes of it in a process of its own, if it goes well there without it. */
  async #confirmed(mutant: Mutant, test: TimedTest): Promise<Verdict | undefined> {
    const worker = new Worker(this.#sandbox, { files: filesOf([test.id]) });
    try {
      if ((await worker.loaded(loadMs)).kind !== 'loaded') return undefined;
      const began = Date.now();
      const without = await worker.run({}, [patient(test)]);
      if (without.kind !== 'allPassed') return undefined;
      const deadlineMs = 3000 + 10 * (Date.now() - began);
      const ending = await worker.run({ mutant: mutant.id }, [{ ...test, deadlineMs }]);
      return ending.kind === 'allPassed' ? undefined : noticed(ending);
    } finally {
      worker.stop();
    }
  }

  /** In a process of its own, with time enough. */
  async #fateAlone(mutant: Mutant, tests: readonly TimedTest[]): Promise<Verdict> {
    const worker = new Worker(this.#sandbox, { files: filesOf(tests.map(({ id }) => id)) });
    try {
      const loaded = await worker.loaded(loadMs);
      if (loaded.kind !== 'loaded') throw new Error(`tests cannot be loaded: ${loaded.why}`);
      return noticed(await worker.run({ mutant: mutant.id }, tests.map(patient)));
    } finally {
      worker.stop();
    }
  }

  /**
   * Of code that runs when it is loaded: in a process in which it is on from the beginning, by the tests that come by its
   * file or one that imports it.
   */
  async #fateAtLoad(mutant: Mutant): Promise<Verdict> {
    const near = new Set([mutant.file, ...this.#importers(mutant.file)]);
    const isNear = (id: string) => near.has(this.#sources.get(id) ?? '');
    const tests = this.#ranked(mutant, ({ hits }) => Object.keys(hits).some(isNear));
    if (tests.length === 0) return { fate: 'not covered' };
    const files = filesOf(tests.map(({ id }) => id));
    const on = { id: mutant.id, maxHits: 1_000_000 };
    const worker = new Worker(this.#sandbox, { files, mutant: on });
    try {
      const loaded = await worker.loaded(loadMs);
      if (loaded.kind !== 'loaded') return { fate: 'killed' };
      return noticed(await worker.run({ mutant: mutant.id }, tests));
    } finally {
      worker.stop();
    }
  }

  /** The tests that come by it: the one that noticed it before, those beside its source, and of these the short ones. */
  #ranked(mutant: Mutant, isAsked: (test: Test) => boolean): readonly TimedTest[] {
    const earlier = this.#earlier(mutant);
    const isNear = (file: string) => folderOf(file) === folderOf(mutant.file);
    const rank = (id: string, { milliseconds }: Test) => {
      if (id === earlier) return -1;
      const file = fileOf(id);
      const isNamesake = file === mutant.file.replace(/\.ts$/, '.test.ts');
      const isBeside = dirname(file) === dirname(mutant.file);
      return milliseconds / (isNamesake ? 100 : isBeside ? 10 : isNear(file) ? 3 : 1);
    };
    let leftMs = farMs;
    return Object.entries(this.#coverage.tests)
      .filter(([, test]) => isAsked(test))
      .toSorted(([a, one], [b, other]) => rank(a, one) - rank(b, other))
      .filter(([id, { milliseconds }]) => {
        if (id === earlier || isNear(fileOf(id))) return true;
        leftMs -= milliseconds;
        return leftMs > 0;
      })
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

function noticed(ending: Ending): Verdict {
  if (ending.kind === 'allPassed') return { fate: 'survived' };
  const isEndless = ending.kind === 'late' || (ending.kind === 'failed' && ending.isEndless);
  return { fate: isEndless ? 'endless' : 'killed', test: ending.id };
}

function fileOf(id: string): string {
  return id.slice(0, id.indexOf('#'));
}

/** The folder of `src`. */
function folderOf(file: string): string | undefined {
  return file.split('/')[1];
}

function filesOf(ids: readonly string[]): string[] {
  return [...new Set(ids.map(fileOf))];
}
