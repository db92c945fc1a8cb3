// Writes docs/phases.md from the phase table to stdout.
#include "controller/machine/phases.hpp"

#include <iostream>

int main() {
    std::cout << godwit::controller::phases_document();
    return 0;
}
