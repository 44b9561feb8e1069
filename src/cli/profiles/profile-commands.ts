import type { Command } from 'commander';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { CliContext } from '../context.ts';
import {
  addProfile,
  addRule,
  addTags,
  removeProfile,
  removeRule,
  removeTags,
  rulesJson,
  showProfile,
  showRules,
  showTags,
  updateRules,
  type RuleChange,
} from './profile-plans.ts';
import { detailProfiles, listProfiles } from './profile-text.ts';

/**
 * `profile …`: the Profile commands, with the syntax of Calico's first command line.
 * `calico-cnm profile web rule add inbound allow tcp from tag other to ports 80`; names and tags are Docker's.
 */
export function addProfileCommands(program: Command, context: CliContext): void {
  program
    .command('profile [args...]')
    .description('show and edit Profiles')
    .usage(
      '[options] [add|remove|show] [NAME]\n       calico-cnm profile [options] NAME show|tag|rule …',
    )
    .option('--at <number>', 'position of the rule, starting at 1')
    .option('--detailed', 'show rules and users of every Profile')
    .option('--no-check', 'remove a Profile that is in use')
    .addHelpText('after', help)
    .action(async (words: readonly string[], options: ProfileOptions) => {
      const at = parsePosition(options.at);
      const isUpdate = words[1] === 'rule' && words[2] === 'update';
      const input = isUpdate ? await context.readInput() : '';
      const plan = planOf(words, { ...options, at, input, stamp: context.stamp });
      context.out(await context.withStore(({ write }) => write(plan)));
    });
}

const help = `
  profile add db                       create a Profile that allows inbound traffic from its own tag and all outbound traffic
  profile remove db                    delete a Profile; rejected if it is in use, unless --no-check
  profile show                         list Profiles; with --detailed also rules and users
  profile show db                      show tags and numbered rules; same as profile db show and profile db
  profile db tag show
  profile db tag add legacy            adds a tag to its containers
  profile db tag remove legacy
  profile db rule show
  profile db rule add inbound allow tcp from tag web to ports 5432
  profile db rule add inbound --at 1 deny from cidr 10.9.0.0/16
  profile db rule remove inbound 1
  profile db rule remove inbound deny from cidr 10.9.0.0/16
  profile db rule json > rules         print all rules as JSON
  profile db rule update < rules       replace all rules

RULE: allow|deny|log|pass [PROTOCOL] [from ENTITY] [to ENTITY]
  PROTOCOL   tcp, udp, sctp, udplite, a number, icmp or icmpv6 [type N [code N]]
  ENTITY     any of: ports 80,8000:8010   tag NAME   cidr 10.0.0.0/8,…   selector 'a == "b"'`;

interface ProfileOptions {
  readonly at?: string;
  readonly detailed?: boolean;
  readonly check: boolean;
}

interface PlanOptions {
  readonly at: number | undefined;
  readonly detailed?: boolean;
  readonly check: boolean;
  /** The standard input, for `rule update`. */
  readonly input: string;
  readonly stamp: CliContext['stamp'];
}

/** Changes the datastore and returns the text to print. */
type Plan = (draft: Draft) => string;

/** Returns the plan of a command. A Profile may be named `add`, `show` or `rule`: the number of arguments decides. */
function planOf(words: readonly string[], options: PlanOptions): Plan {
  const [first = '', second, third, ...rest] = words;
  const plan =
    words.length <= 2
      ? (wholePlan(first, second, options) ??
        (second === undefined || second === 'show'
          ? (draft: Draft) => showProfile(draft, first)
          : undefined))
      : second === 'tag'
        ? tagPlan(first, third, rest)
        : second === 'rule'
          ? rulePlan(first, [third ?? '', ...rest], options)
          : undefined;
  if (plan !== undefined) return plan;
  throw new CalicoError('cli/bad-argument', {
    what: `profile ${words.join(' ')}`,
    why: 'invalid command; see calico-cnm profile --help',
  });
}

function wholePlan(
  verb: string,
  name: string | undefined,
  { detailed, check, stamp }: PlanOptions,
): Plan | undefined {
  if ((verb === '' || verb === 'show') && name === undefined) {
    return detailed ? detailProfiles : listProfiles;
  }
  if (name === undefined) {
    if (verb !== 'add' && verb !== 'remove') return undefined;
    throw new CalicoError('cli/bad-argument', { what: `profile ${verb}`, why: 'needs a name' });
  }
  if (verb === 'show') return (draft) => showProfile(draft, name);
  if (verb === 'add') return (draft) => addProfile(draft, name, stamp);
  if (verb === 'remove') return (draft) => removeProfile(draft, name, { force: !check });
  return undefined;
}

function tagPlan(
  profile: string,
  verb: string | undefined,
  tags: readonly string[],
): Plan | undefined {
  if (verb === 'show' && tags.length === 0) return (draft) => showTags(draft, profile);
  if (verb !== 'add' && verb !== 'remove') return undefined;
  if (tags.length === 0) {
    throw new CalicoError('cli/bad-argument', { what: `tag ${verb}`, why: 'needs a tag' });
  }
  return (draft) => (verb === 'add' ? addTags : removeTags)(draft, profile, tags);
}

function rulePlan(
  profile: string,
  [verb, ...words]: readonly string[],
  { at, input }: PlanOptions,
): Plan | undefined {
  if (verb === 'show' && words.length === 0) return (draft) => showRules(draft, profile);
  if (verb === 'json' && words.length === 0) return (draft) => rulesJson(draft, profile);
  if (verb === 'update' && words.length === 0) {
    return (draft) => updateRules(draft, profile, input);
  }
  if (verb === 'add') return (draft) => addRule(draft, profile, ruleChange(words, at));
  if (verb === 'remove') return (draft) => removeRule(draft, profile, removal(words, at));
  return undefined;
}

/** Parses the rule to remove: an expression, or its number alone (no expression starts with a number). */
function removal(words: readonly string[], at: number | undefined): RuleChange {
  const [direction = '', position = '', ...more] = words;
  const isPosition = /^\d+$/.test(position) && more.length === 0 && at === undefined;
  return isPosition ? ruleChange([direction], parsePosition(position)) : ruleChange(words, at);
}

function ruleChange(
  [direction = '', ...words]: readonly string[],
  at: number | undefined,
): RuleChange {
  if (direction === 'inbound' || direction === 'outbound') return { direction, words, at };
  const why = 'must be inbound or outbound';
  throw new CalicoError('cli/bad-argument', { what: `"${direction}"`, why });
}

function parsePosition(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new CalicoError('cli/bad-argument', { what: `position ${text}`, why: 'must be 1 or more' });
}
