#include "vlmamba/app/main.h"

int main(int argc, char** argv) { return vlmamba::app::main(argc, argv); }
