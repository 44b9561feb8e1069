import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { coverage, type Coverage } from './coverage.ts';
import { fates, type Verdict } from './judge.ts';
import type { Sandbox } from './sandbox.ts';

const judged = z.object({
  mutant: z.string(),
  fate: z.enum(fates),
  test: z.string().optional(),
  /** What the test was when it noticed the mutant; see `Sandbox`. */
  testContents: z.string().optional(),
});

/** What is known of this code and these tests, so that a run that was ended goes on where it was. */
export class RunRecord {
  readonly #file: string;
  readonly #coverageFile: string;
  readonly #known = new Map<string, Verdict>();
  readonly #earlier = new Map<string, string>();

  readonly #contentsOf: (file: string) => string;

  /** A mutant that was noticed stays so as long as the test that did it, and all that it imports, do not change. */
  constructor(repository: string, { contents, contentsOf }: Sandbox) {
    this.#contentsOf = (test) => contentsOf(test.slice(0, test.indexOf('#')));
    const folder = join(repository, 'node_modules/.cache/mutation');
    this.#file = join(folder, `${contents}.jsonl`);
    this.#coverageFile = join(folder, `${contents}-coverage.json`);
    mkdirSync(dirname(this.#file), { recursive: true });
    for (const name of readdirSync(folder)) {
      if (!name.endsWith('.jsonl')) continue;
      for (const { mutant, fate, test, testContents } of verdictsOf(join(folder, name))) {
        const isSame = test !== undefined && testContents === this.#contentsOf(test);
        if (isSame || name === `${contents}.jsonl`) this.#known.set(mutant, { fate, test });
        if (test !== undefined) this.#earlier.set(mutant, test);
      }
    }
  }

  verdictOf(mutant: string): Verdict | undefined {
    return this.#known.get(mutant);
  }

  /** The test that noticed it in a run on other code or with other tests: likely, but not certain, to do so again. */
  earlierTest(mutant: string): string | undefined {
    return this.#earlier.get(mutant);
  }

  add(mutant: string, verdict: Verdict): void {
    const { test } = verdict;
    const testContents = test === undefined ? undefined : this.#contentsOf(test);
    appendFileSync(this.#file, `${JSON.stringify({ mutant, ...verdict, testContents })}\n`);
  }

  /** As measured before, or now. */
  async coverage(measure: () => Promise<Coverage>): Promise<Coverage> {
    if (existsSync(this.#coverageFile)) {
      return coverage.parse(JSON.parse(readFileSync(this.#coverageFile, 'utf8')));
    }
    const measured = await measure();
    writeFileSync(this.#coverageFile, JSON.stringify(measured));
    return measured;
  }
}

function verdictsOf(file: string) {
  // The last line may be torn.
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => judged.parse(JSON.parse(line)));
}
