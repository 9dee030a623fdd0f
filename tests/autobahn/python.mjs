/** Python 2.7 and, in a virtual environment under target/, the Autobahn|Testsuite, which runs under nothing newer. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { PROJECT } from "../browser/server.mjs";

const REQUIREMENTS = `${PROJECT}tests/autobahn/requirements.txt`;
/** The last virtualenv that makes environments for Python 2.7. */
const VIRTUALENV = "virtualenv==20.15.1";

/**
 * A Python 2.7 that really runs: the shim of a pyenv is on the path whether or not its version is chosen.
 *
 * @returns {string | null}
 */
function findPython() {
  const versions = `${process.env.PYENV_ROOT ?? `${homedir()}/.pyenv`}/versions`;
  const installed = existsSync(versions) ? readdirSync(versions).filter((name) => name.startsWith("2.7")) : [];
  const candidates = ["python2.7", ...installed.map((name) => `${versions}/${name}/bin/python2.7`)];
  return candidates.find(runs) ?? null;
}

function runs(python) {
  try {
    execFileSync(python, ["-c", "import sys; assert sys.version_info[:2] == (2, 7)"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Installs the suite if it is not there yet; nothing outside target/ is touched.
 *
 * @returns {string | null} the path of `wstest`, or `null` without Python 2.7
 */
export function installSuite() {
  const python = findPython();
  if (python === null) {
    return null;
  }
  const fingerprint = createHash("sha256").update(python).update(readFileSync(REQUIREMENTS)).digest("hex").slice(0, 12);
  const home = `${PROJECT}target/autobahn-${fingerprint}`;
  const wstest = `${home}/env/bin/wstest`;
  if (existsSync(`${home}/complete`)) {
    return wstest;
  }

  console.log(`installing the Autobahn|Testsuite for ${python}`);
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home, { recursive: true });
  const environment = {
    ...process.env,
    PYTHONPATH: `${home}/tool`,
    PIP_DISABLE_PIP_VERSION_CHECK: "1",
    VIRTUALENV_OVERRIDE_APP_DATA: `${home}/data`,
  };
  const run = (...args) => {
    try {
      execFileSync(args[0], args.slice(1), { env: environment, stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 26 });
    } catch (error) {
      throw new Error(`${args.join(" ")} failed:\n${error.stdout}${error.stderr}`);
    }
  };
  run(python, "-m", "pip", "install", "--no-input", "--quiet", "--target", `${home}/tool`, VIRTUALENV);
  run(python, "-m", "virtualenv", "--quiet", "--no-download", `${home}/env`);
  delete environment.PYTHONPATH;
  run(`${home}/env/bin/pip`, "install", "--no-input", "--quiet", "--requirement", REQUIREMENTS);
  mkdirSync(`${home}/complete.part`);
  renameSync(`${home}/complete.part`, `${home}/complete`);
  return wstest;
}
