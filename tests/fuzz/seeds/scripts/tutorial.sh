#!/bin/bash
# A GPU machine, as tutorials print it.
set -e
VERSION=10.1 TARGET="$HOME/course"
sudo apt-get update && sudo apt-get install -y build-essential git \
    unzip   # tools
wget https://repo.example.org/Miniconda3-latest-Linux-x86_64.sh
sh Miniconda3-latest-Linux-x86_64.sh -b
echo 'export PATH=~/miniconda3/bin:$PATH' >> ~/.bashrc; source ~/.bashrc
cat > /etc/motd <<'END'
Welcome to "$HOST"
END
cat <<-EOF | tee -a ~/.config/x
	$VERSION
	EOF
for i in 1 2; do
  if [ -e "$i" ]; then echo `date` $(echo "a )" b) ${X:-'}'}; fi
done
case $1 in (a|b) f ;; *) g;; esac
install() { cd "$TARGET" || exit 1; (make; make install) & wait; }
install >log 2>&1 <in
curl -s https://example.org/x | bash -s -- -y
jupyter notebook --ip=0.0.0.0 &
