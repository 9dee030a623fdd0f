//! The journal of several instances on one bus inside the process, with everything that may happen to it.
